"""What the theorems about forms rest on besides the handlers: short texts of the loop and the decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import z3

from checks.fast.block import Block, Decoded, RegisterOffset
from checks.fast.effects import EFFECTS
from checks.fast.explain import COMPLETES, OTHER_FLAGS
from checks.fast.lemma_case import (
    DISTINCT,
    RSP,
    Claim,
    Shown,
    explained,
    load_address,
    move,
    move_immediate,
    with_fixed_register,
)
from checks.fast.start import FLAGS, Start, flags_of
from checks.fast.theorems import memory_fields
from checks.fast.words import TEXTS, bits_of, number
from checks.fuzz.bases import NOP
from checks.symbolic.terms import Terms, Truth, Vector
from checks.theorem import Goal, Witness
from checks.trap.concrete import Concrete
from fastmodel import decoded, decoder
from fastmodel import state as layout
from fastmodel.compiler.program import instance
from fastmodel.handlers.flags import set_status_flags
from fastmodel.handlers.operands import effective_address

ALWAYS_SET = 2  # bit 1 of RFLAGS.  SDM 1 3.4.3
Code = Callable[..., bytes]
Fields = dict[int, Vector | RegisterOffset]
Lemma = Callable[[Start], Iterator[Claim]]


def address(start: Start) -> Iterator[Claim]:
    """The address of a memory operand is base + index * scale + displacement.  SDM 1 3.7.5"""
    terms, fields = start.terms, memory_fields(start)
    found = TEXTS.function(instance(effective_address))(start.block.address, Decoded(start.paths, fields))
    base, index = (_optional(start, fields[field]) for field in (decoded.BASE, decoded.INDEX))
    factor = terms.arithmetic("<<", 1, cast(Vector, fields[decoded.SCALE]), 64)
    wanted = terms.arithmetic("+", base, Terms.arithmetic(terms, "*", index, factor, 64), 64)
    wanted = terms.arithmetic("+", wanted, cast(Vector, fields[decoded.DISPLACEMENT]), 64)
    yield Claim(terms.equal(bits_of(found), wanted, 64), partial(_address_shown, start, fields))


def _optional(start: Start, register: object) -> Vector:
    """The value of a register that may be missing."""
    assert isinstance(register, RegisterOffset)
    value = cast(Vector, start.block.state.elements("GPR").read((register.number,)))
    return start.terms.choose(register.is_present, value, 0, 64)


def _address_shown(start: Start, fields: Fields, concrete: Concrete) -> Shown:
    numbers: list[int | None] = []
    state: dict[str, int] = {}
    for register in (fields[decoded.BASE], fields[decoded.INDEX]):
        assert isinstance(register, RegisterOffset)
        is_present, number = concrete.holds(register.is_present), concrete.number(register.number)
        numbers.append(number if is_present else None)
        if is_present:
            value = start.block.state.elements("GPR").read((register.number,))
            state[f"GPR[{number}]"] = concrete.number(value)
    scale, displacement = (
        concrete.number(cast(Vector, fields[one])) for one in (decoded.SCALE, decoded.DISPLACEMENT)
    )
    return Shown("LEA", load_address(numbers[0], numbers[1], scale, displacement), state)


def _encodable(start: Start) -> list[z3.ExprRef]:
    """What an address must not be for an instruction to have it, and what makes it short."""
    terms, fields = start.terms, memory_fields(start)
    index, displacement = fields[decoded.INDEX], cast(Vector, fields[decoded.DISPLACEMENT])
    assert isinstance(index, RegisterOffset)
    is_stack_pointer = terms.conjunction((index.is_present, terms.equal(index.number, RSP, 4)))
    short = terms.extend(terms.extract(displacement, 31, 0), 32, 64, is_signed=True)
    is_long = terms.negation(terms.equal(displacement, short, 64))
    wanted = (is_stack_pointer, is_long, displacement, fields[decoded.SCALE])
    return [one for one in wanted if isinstance(one, z3.ExprRef)]


def flags(start: Start) -> Iterator[Claim]:
    """What a run begins and ends with: RFLAGS put into the words of the block and taken out again."""
    block = start.block.copy()
    before = start.terms.symbol(FLAGS, 64)
    block.words[layout.RFLAGS] = before
    TEXTS.function(instance(set_status_flags))(block.address, number(start.paths, before))

    def shown(concrete: Concrete) -> Shown:
        return Shown("NOP", NOP, {FLAGS: concrete.number(before) | ALWAYS_SET})

    yield Claim(start.terms.equal(flags_of(block), before, 64), shown)


def _usual_flags(start: Start) -> list[z3.ExprRef]:
    """Flags that the fuzzer's machine need not have."""
    before = start.terms.symbol(FLAGS, 64)
    return [
        one for one in (start.terms.arithmetic("&", before, OTHER_FLAGS, 64),) if isinstance(one, z3.ExprRef)
    ]


def registers(start: Start) -> Iterator[Claim]:
    """Which register an operand is: the decoder's text against ModR/M, opcode and REX.  SDM 2A 2.2.1, 3.1.1.1"""
    terms = start.terms
    modrm, opcode, rex_bits = (terms.symbol(f"code.{name}", 8) for name in ("modrm", "opcode", "rex"))
    has_rex = terms.bool_symbol("code.has_rex")
    rex = terms.choose(has_rex, terms.concat([(4, 4), (terms.extract(rex_bits, 3, 0), 4)]), 0, 8)
    block = start.block.copy()
    for offset, byte in ((decoder.MODRM, modrm), (decoder.OPCODE, opcode), (decoder.REX, rex)):
        block.words[offset] = terms.extend(byte, 8, 64, is_signed=False)
    fixed = terms.symbol("table.register", 4)

    def prefix(concrete: Concrete) -> int | None:
        return concrete.number(rex) if concrete.holds(has_rex) else None

    def by_modrm(concrete: Concrete, *, is_byte: bool) -> bytes:
        return move(prefix(concrete), concrete.number(modrm), is_byte=is_byte)

    def by_opcode(concrete: Concrete, *, is_byte: bool) -> bytes:
        return move_immediate(prefix(concrete), concrete.number(opcode), is_byte=is_byte)

    def by_table(concrete: Concrete, *, is_byte: bool) -> bytes:
        return with_fixed_register(concrete.number(fixed), is_byte=is_byte)

    sources: tuple[tuple[Vector, Vector, Code], ...] = (
        (decoder.FROM_REG, _extended(start, rex, 2, terms.extract(modrm, 5, 3)), by_modrm),
        (decoder.FROM_RM, _extended(start, rex, 0, terms.extract(modrm, 2, 0)), by_modrm),
        (decoder.FROM_OPCODE, _extended(start, rex, 0, terms.extract(opcode, 2, 0)), by_opcode),
        (terms.concat([(decoder.FIXED_REGISTER >> 4, 60), (fixed, 4)]), fixed, by_table),
    )
    for source, wanted, code in sources:
        for is_byte in (0, 2):
            shown = partial(_register_shown, partial(code, is_byte=is_byte != 0))
            for holds in _offsets(start, block, source, is_byte, wanted, has_rex):
                yield Claim(holds, shown)


def _register_shown(code: Callable[[Concrete], bytes], concrete: Concrete) -> Shown:
    return Shown("a register operand", code(concrete), DISTINCT)


def _extended(start: Start, rex: Vector, bit: int, low: Vector) -> Vector:
    """A register number of three bits, with its fourth from REX."""
    return start.terms.concat([(start.terms.extract(rex, bit, bit), 1), (low, 3)])


def _offsets(
    start: Start, block: Block, source: Vector, is_byte: int, wanted: Vector, has_rex: Truth
) -> Iterator[Truth]:
    """The offset that the decoder finds is that of the register with a number, or of its byte 1."""
    terms = start.terms
    function = TEXTS.function(instance(decoder.register_operand))
    wide = terms.concat([(0, 57), (wanted, 4), (0, 3)])
    high = terms.concat([(0, 59), (terms.extract(wanted, 1, 0), 2), (1, 3)])
    is_four_to_seven = terms.equal(terms.extract(wanted, 3, 2), 1, 2)
    is_high = terms.conjunction((is_byte != 0, terms.negation(has_rex), is_four_to_seven))
    offset = terms.choose(is_high, high, wide, 64)

    def act() -> object:
        return function(block.address, number(start.paths, source), is_byte)

    for condition, found in start.paths.explore(act):
        yield terms.implies(condition, terms.equal(bits_of(found), offset, 64))


LEMMAS: dict[str, Lemma] = {"address": address, "flags": flags, "registers": registers}
_MINIMISE: dict[str, Callable[[Start], list[z3.ExprRef]]] = {"address": _encodable, "flags": _usual_flags}
IDS = (*LEMMAS, *EFFECTS)
"""The names of all lemmas."""


def goals(family: str, start: Start, ids: frozenset[str] | None = None) -> Iterator[Goal]:
    """The lemmas as goals, or those of them with an id in `ids`."""
    made = {**dict.fromkeys(LEMMAS, _about_operands), **dict.fromkeys(EFFECTS, _about_effects)}
    for name, make in made.items():
        if ids is None or f"{family}.{name}" in ids:
            yield make(f"{family}.{name}", name, start)


def _about_operands(goal: str, name: str, start: Start) -> Goal:
    terms, claims = start.terms, tuple(LEMMAS[name](start))
    return Goal(
        goal,
        terms.truth(terms.conjunction(one.holds for one in claims)),
        witnesses=(Witness(COMPLETES, terms.truth(True)),),
        minimise=partial(_MINIMISE[name], start) if name in _MINIMISE else None,
        explain=partial(explained, goal, claims),
    )


def _about_effects(goal: str, name: str, start: Start) -> Goal:
    return Goal(goal, start.terms.truth(start.terms.conjunction(EFFECTS[name](start))))
