"""What the theorems about forms rest on besides the handlers: short texts of the loop and the decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from checks.fast.block import Block, Decoded, RegisterOffset
from checks.fast.effects import EFFECTS
from checks.fast.start import FLAGS, Start, flags_of
from checks.fast.theorems import memory_fields
from checks.fast.words import TEXTS, bits_of, number
from checks.symbolic.terms import Terms, Truth, Vector
from checks.theorem import Goal
from fastmodel import decoded, decoder
from fastmodel import state as layout
from fastmodel.compiler.program import instance
from fastmodel.handlers.flags import set_status_flags
from fastmodel.handlers.operands import effective_address

Lemma = Callable[[Start], Iterator[Truth]]


def address(start: Start) -> Iterator[Truth]:
    """The address of a memory operand is base + index * scale + displacement.  SDM 1 3.7.5"""
    terms, fields = start.terms, memory_fields(start)
    found = TEXTS.function(instance(effective_address))(start.block.address, Decoded(start.paths, fields))
    base, index = (_optional(start, fields[field]) for field in (decoded.BASE, decoded.INDEX))
    factor = terms.arithmetic("<<", 1, cast(Vector, fields[decoded.SCALE]), 64)
    wanted = terms.arithmetic("+", base, Terms.arithmetic(terms, "*", index, factor, 64), 64)
    wanted = terms.arithmetic("+", wanted, cast(Vector, fields[decoded.DISPLACEMENT]), 64)
    yield terms.equal(bits_of(found), wanted, 64)


def _optional(start: Start, register: object) -> Vector:
    """The value of a register that may be missing."""
    assert isinstance(register, RegisterOffset)
    value = cast(Vector, start.block.state.elements("GPR").read((register.number,)))
    return start.terms.choose(register.is_present, value, 0, 64)


def flags(start: Start) -> Iterator[Truth]:
    """What a run begins and ends with: RFLAGS put into the words of the block and taken out again."""
    block = start.block.copy()
    before = start.terms.symbol(FLAGS, 64)
    block.words[layout.RFLAGS] = before
    TEXTS.function(instance(set_status_flags))(block.address, number(start.paths, before))
    yield start.terms.equal(flags_of(block), before, 64)


def registers(start: Start) -> Iterator[Truth]:
    """Which register an operand is: the decoder's text against ModR/M, opcode and REX.  SDM 2A 2.2.1, 3.1.1.1"""
    terms = start.terms
    modrm, opcode, rex_bits = (terms.symbol(f"code.{name}", 8) for name in ("modrm", "opcode", "rex"))
    has_rex = terms.bool_symbol("code.has_rex")
    rex = terms.choose(has_rex, terms.concat([(4, 4), (terms.extract(rex_bits, 3, 0), 4)]), 0, 8)
    block = start.block.copy()
    for offset, byte in ((decoder.MODRM, modrm), (decoder.OPCODE, opcode), (decoder.REX, rex)):
        block.words[offset] = terms.extend(byte, 8, 64, is_signed=False)
    fixed = terms.symbol("table.register", 4)
    numbers: tuple[tuple[Vector, Vector], ...] = (
        (decoder.FROM_REG, _extended(start, rex, 2, terms.extract(modrm, 5, 3))),
        (decoder.FROM_RM, _extended(start, rex, 0, terms.extract(modrm, 2, 0))),
        (decoder.FROM_OPCODE, _extended(start, rex, 0, terms.extract(opcode, 2, 0))),
        (terms.concat([(decoder.FIXED_REGISTER >> 4, 60), (fixed, 4)]), fixed),
    )
    for source, wanted in numbers:
        for is_byte in (0, 2):
            yield from _offsets(start, block, source, is_byte, wanted, has_rex)


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


LEMMAS: dict[str, Lemma] = {"address": address, "flags": flags, "registers": registers, **EFFECTS}


def goals(family: str, start: Start) -> Iterator[Goal]:
    """The lemmas as goals."""
    for name, lemma in LEMMAS.items():
        yield Goal(f"{family}.{name}", start.terms.truth(start.terms.conjunction(lemma(start))))
