"""Shifts.  spec/instructions/shift.isa

The count is taken modulo 64 for 64 bits, modulo 32 otherwise; a count of 0 leaves the flags as they are.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, inlined, shift_right, signed, unsigned
from fastmodel.handlers.flags import set_shift_flags
from fastmodel.handlers.operands import modify
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import Widths, handles

SHIFT_SIZES: tuple[Widths, ...] = ((8, 8), (16, 8), (32, 8), (64, 8))
FORMS = "rr ri mr mi"  # the count is CL, an immediate, or 1
COUNT_MASK_64 = 63
COUNT_MASK = 31


@inlined
def distance_of(count: int) -> int:
    """How far a count shifts."""
    return count & (COUNT_MASK_64 if WIDTH == 64 else COUNT_MASK)


@handles("SHL", template=modify, widths=SHIFT_SIZES, forms=FORMS)
@inlined
def shift_left(state: int, a: int, count: int) -> int:
    """Shifts left; CF is the last bit shifted out."""
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = a << (distance - 1)
    carry = shift_right(almost, WIDTH - 1) & 1
    result = unsigned(WIDTH, almost << 1)
    set_shift_flags(state, result, carry, shift_right(result, WIDTH - 1) ^ carry)
    return result


@handles("SHR", template=modify, widths=SHIFT_SIZES, forms=FORMS)
@inlined
def shift_right_logically(state: int, a: int, count: int) -> int:
    """Shifts right, filling with zeros; OF is the sign of a for a shift by one, otherwise (undefined) 0."""
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = shift_right(a, distance - 1)
    result = shift_right(almost, 1)
    set_shift_flags(state, result, almost & 1, shift_right(a, WIDTH - 1) & bit(distance == 1))
    return result


@handles("SAR", template=modify, widths=SHIFT_SIZES, forms=FORMS)
@inlined
def shift_right_arithmetically(state: int, a: int, count: int) -> int:
    """Shifts right, filling with the sign."""
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = signed(WIDTH, a) >> (distance - 1)
    set_shift_flags(state, almost >> 1, almost & 1, 0)
    return almost >> 1
