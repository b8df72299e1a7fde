"""What handlers declare that they do with the status flags (fastmodel/handlers/registry.py), as lemmas.

The decoder chooses routines that leave flags alone where these declarations say that nothing looks at them. Each
handler's text runs once more, with any operands, and what it leaves must not mention the words that flags were in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import z3

from checks.fast.block import Block, Decoded, RegisterOffset
from checks.fast.start import Start
from checks.fast.theorems import memory_fields
from checks.fast.words import TEXTS, Word, bits_of
from checks.symbolic.terms import Truth, Vector
from fastmodel import decoded
from fastmodel import state as layout
from fastmodel.compiler.program import instance
from fastmodel.handlers import HANDLERS, Handler
from fastmodel.handlers.operands import DONE, REFUSED
from fastmodel.handlers.registry import CHANGED, KEPT, REPLACED

FLAG_WORDS = (layout.RESULT, layout.CARRIES)


def declared(start: Start, effect: int) -> Iterator[Truth]:
    """What all handlers that declare an effect have in common."""
    for handler in HANDLERS:
        if handler.flags == effect:
            yield from claims(start, handler)


def claims(start: Start, handler: Handler) -> Iterator[Truth]:
    """A handler completes, what it does but for flags does not depend on flags, and with these it does as declared."""
    fields = Decoded(start.paths, _any_operands(start, handler))
    function = TEXTS.function(instance(handler.function, dict(handler.bindings)))
    before = [start.block.word(offset) for offset in FLAG_WORDS]

    def act() -> tuple[Block, int | Word]:
        block = start.block.copy()
        return block, function(block.address, fields)

    for condition, (block, outcome) in start.paths.explore(act):
        is_done = outcome != REFUSED and start.terms.equal(bits_of(outcome), DONE, 64)
        yield start.terms.implies(condition, is_done)
        after = [block.word(offset) for offset in FLAG_WORDS]
        left = [condition, *_others(start, block), *(after if handler.flags == REPLACED else ())]
        yield not any(_mentions(value, before) for value in left)
        if handler.flags == KEPT:
            same = (start.terms.equal(old, new, 64) for old, new in zip(before, after, strict=True))
            yield start.terms.implies(condition, start.terms.conjunction(same))


def _others(start: Start, block: Block) -> Iterator[Vector]:
    """Any general register after a handler, and the words of the block but for those of the flags."""
    number = start.terms.symbol("register", 4)
    yield cast(Vector, block.state.elements("GPR").read((number,)))
    yield from (word for offset, word in block.words.items() if offset not in FLAG_WORDS)


def _any_operands(start: Start, handler: Handler) -> dict[int, Vector | RegisterOffset]:
    """The fields of a decoded instruction with any operands."""
    terms = start.terms
    fields: dict[int, Vector | RegisterOffset] = dict(memory_fields(start))
    for offset, name, width in zip((decoded.FIRST, decoded.SECOND), ("first", "second"), (0, 1), strict=True):
        is_byte = len(handler.widths) > width and handler.widths[width] == 8
        is_high = terms.bool_symbol(f"operand.{name}.is_high") if is_byte else False
        fields[offset] = RegisterOffset(terms.symbol(f"operand.{name}", 4), is_high)
    for offset in (decoded.IMMEDIATE, decoded.ADDRESS, decoded.NEXT, decoded.EXTRA):
        fields[offset] = terms.symbol(f"operand.field_{offset}", 64)
    return fields


def _mentions(value: Vector | Truth, symbols: list[Vector]) -> bool:
    """Whether one of some symbols occurs in a term."""
    wanted = {symbol.get_id() for symbol in symbols if isinstance(symbol, z3.ExprRef)}
    waiting: list[z3.ExprRef] = [value] if isinstance(value, z3.ExprRef) else []
    seen: set[int] = set()
    while waiting:
        term = waiting.pop()
        if term.get_id() in wanted:
            return True
        if term.get_id() not in seen:
            seen.add(term.get_id())
            waiting += term.children()
    return False


EFFECTS: dict[str, Callable[[Start], Iterator[Truth]]] = {
    "flags_kept": partial(declared, effect=KEPT),
    "flags_replaced": partial(declared, effect=REPLACED),
    "flags_changed": partial(declared, effect=CHANGED),
}
