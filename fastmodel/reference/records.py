"""Decoded instructions as records of 64-bit words: their bytes, what runs them, their operands."""

from __future__ import annotations

from fastmodel.reference.layout import OFFSET, Layout
from refmodel.access import (
    ImmediateAccess,
    MemoryAccess,
    OperandAccess,
    RegisterAccess,
    RelativeAccess,
    SpecialAccess,
)
from refmodel.registers import HIGH_BYTE, Register

# Words of a record, by number; the first two are the bytes.
BODY, LENGTH, ADDRESS_SIZE, OPERAND_SIZE, REPEAT, OPERANDS = 2, 3, 4, 5, 6, 7

# Words of an operand, by number. VALUE is the constant, the distance, or the displacement.
KIND, INDEX, SEGMENT, BASE, INDEX_REGISTER, SCALE, VALUE, MASK, ADDRESSING, OPERAND_WORDS = range(10)

# Kinds of operand.
NUMBER, REGISTER, HIGH, MEMORY, CONSTANT, RELATIVE = range(6)

# Instead of a body.
TRUNCATED = -1  # the instruction reaches into the next page
UNKNOWN = -2  # the specification has none

MASK_64 = (1 << 64) - 1


def operand_offset(number: int) -> int:
    """Where an operand's words begin, in bytes."""
    return 8 * (OPERANDS + OPERAND_WORDS * number)


def offsets() -> dict[str, int]:
    """The offsets and numbers that `runtime.ll` uses, by their names there."""
    operand = {"INDEX": INDEX, "SEGMENT": SEGMENT, "BASE": BASE, "INDEX_REGISTER": INDEX_REGISTER}
    operand |= {"SCALE": SCALE, "VALUE": VALUE, "MASK": MASK, "ADDRESSING": ADDRESSING}
    record = {
        "BODY": BODY,
        "LENGTH": LENGTH,
        "RECORD_ADDRESS_SIZE": ADDRESS_SIZE,
        "RECORD_OPERAND_SIZE": OPERAND_SIZE,
        "RECORD_REPEAT": REPEAT,
    }
    return {
        **{name: 8 * number for name, number in record.items()},
        **{f"OPERAND_{name}": 8 * number for name, number in operand.items()},
        "TRUNCATED": TRUNCATED,
        "MEMORY_OPERAND": MEMORY,
    }


def operand_words(operand: OperandAccess, layout: Layout) -> list[int]:
    """The words of one operand."""
    words = [0] * OPERAND_WORDS
    words[BASE] = words[INDEX_REGISTER] = OFFSET["ZERO"]
    match operand:
        case RegisterAccess(written=written, index=number):
            is_high = isinstance(written, Register) and written.kind == HIGH_BYTE
            words[KIND], words[INDEX] = HIGH if is_high else REGISTER, number
        case SpecialAccess(index=number):
            words[KIND], words[INDEX] = NUMBER, number
        case ImmediateAccess(value=value):
            words[KIND], words[VALUE] = CONSTANT, value & MASK_64
        case RelativeAccess(distance=distance):
            words[KIND], words[VALUE] = RELATIVE, distance & MASK_64
        case MemoryAccess():
            _memory_words(operand, layout, words)
    return words


def _memory_words(operand: MemoryAccess, layout: Layout, words: list[int]) -> None:
    place = operand.place
    words[KIND], words[SEGMENT] = MEMORY, operand.segment
    words[VALUE], words[MASK], words[SCALE] = place.displacement & MASK_64, operand.mask, place.scale
    words[ADDRESSING] = operand.addressing
    registers = layout.places["GPR"]
    if place.rip_relative:
        words[BASE] = layout.places["NEXT_RIP"].offset
        return
    if place.base is not None:
        words[BASE] = registers.offset + registers.stride * place.base
    if place.index is not None:
        words[INDEX_REGISTER] = registers.offset + registers.stride * place.index
