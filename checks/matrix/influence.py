"""Which VMCS fields, and which of their bits, decide something: changing them alone changes the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import z3

from checks.matrix.asker import Asker
from grammar import ir

FEW = 8
"""Up to so many bits of a field are named one by one; of more, the field."""


@dataclass(frozen=True, slots=True)
class Field:
    """A VMCS field and its symbol."""

    name: str
    type: ir.Type
    symbol: z3.BitVecRef


@dataclass(frozen=True, slots=True)
class Effect:
    """What may differ: `values`, in the executions where `condition` holds."""

    condition: z3.BoolRef
    values: Sequence[z3.ExprRef]

    def differs(self, symbol: z3.ExprRef, a: z3.ExprRef, b: z3.ExprRef) -> z3.BoolRef:
        """With the one and with the other in the place of a symbol the condition holds, and a value differs."""
        changed = [(_replaced(v, symbol, a), _replaced(v, symbol, b)) for v in self.values]
        differences = [x != y for x, y in changed if not x.eq(y)]
        context = self.condition.ctx
        holds = [_replaced(self.condition, symbol, one) for one in (a, b)]
        return z3.And(*holds, z3.Or(*differences)) if differences else z3.BoolVal(False, context)


def deciding(asker: Asker, effect: Effect, field: Field) -> Iterator[str]:
    """`FIELD.MEMBER` for each bit that decides, or `FIELD` if they are many or have no names."""
    symbol, context = field.symbol, field.symbol.ctx
    a, b = (z3.BitVec(f"{field.name}.{side}", symbol.size(), context) for side in ("one", "other"))
    if not asker.can(effect.differs(symbol, a, b)):
        return
    names = _names(field.type)
    used = _bits_used(effect, symbol)
    if not 0 < len(used) <= FEW or any(bit not in names for bit in used):
        yield field.name
        return
    for bit in used:
        zero = symbol & ~z3.BitVecVal(1 << bit, symbol.size(), context)
        one = symbol | z3.BitVecVal(1 << bit, symbol.size(), context)
        if asker.can(effect.differs(symbol, zero, one)):
            yield f"{field.name}.{names[bit]}"


def _names(type_: ir.Type) -> dict[int, str]:
    """The named bits of a bitfield."""
    members = type_.members if isinstance(type_, ir.Bitfield) else ()
    return {m.low: m.name for m in members if m.high == m.low}


def _bits_used(effect: Effect, symbol: z3.BitVecRef) -> list[int]:
    """The bits of a symbol that occur in what may differ, once it is simplified."""
    size = symbol.size()
    bits = [z3.BitVec(f"bit!{n}", 1, symbol.ctx) for n in range(size)]
    whole = z3.Concat(*reversed(bits))
    found: set[str] = set()
    for term in (effect.condition, *effect.values):
        found |= _constants(z3.simplify(_replaced(term, symbol, whole)))
    return [n for n in range(size) if f"bit!{n}" in found]


def _replaced(term: z3.ExprRef, symbol: z3.ExprRef, by: z3.ExprRef) -> z3.ExprRef:
    return z3.substitute(term, (symbol, by))


def _constants(term: z3.ExprRef) -> set[str]:
    """The names of the constants in a term."""
    seen: set[int] = set()
    found: set[str] = set()
    pending = [term]
    while pending:
        one = pending.pop()
        if one.get_id() in seen:
            continue
        seen.add(one.get_id())
        if z3.is_const(one) and one.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found.add(one.decl().name())
        pending.extend(one.children())
    return found
