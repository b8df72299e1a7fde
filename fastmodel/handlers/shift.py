"""Shifts.  spec/instructions/shift.isa

The count is taken modulo 64 for 64 bits, modulo 32 otherwise; a count of 0 leaves the flags as they are.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, shift_right, signed, unsigned
from fastmodel.decoded import IMMEDIATE
from fastmodel.handlers.flags import set_result_flags
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    first_value,
    modify,
    operand_to_write,
    second_value,
    set_first,
)
from fastmodel.handlers.parameters import OPERATION, REGISTER, THIRD_KIND, WIDTH
from fastmodel.handlers.registry import CHANGED, Widths, handles
from fastmodel.state import RCX

SHIFT_SIZES: tuple[Widths, ...] = ((8, 8), (16, 8), (32, 8), (64, 8))
FORMS = "rr ri mr mi"  # the count is CL, an immediate, or 1
DOUBLE_SHIFT_SIZES: tuple[Widths, ...] = ((16, 16, 8), (32, 32, 8), (64, 64, 8))
DOUBLE_SHIFT_FORMS = "rrr rri mrr mri"
COUNT_MASK_64 = 63
COUNT_MASK = 31


def distance_of(count: int) -> int:
    """How far a count shifts."""
    return count & (COUNT_MASK_64 if WIDTH == 64 else COUNT_MASK)


@handles("SHL", template=modify, widths=SHIFT_SIZES, forms=FORMS, flags=CHANGED)
def shift_left(state: int, a: int, count: int) -> int:
    """Shifts left; CF is the last bit shifted out."""
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = a << (distance - 1)
    carry = shift_right(almost, WIDTH - 1) & 1
    result = unsigned(WIDTH, almost << 1)
    set_result_flags(state, result, carry, shift_right(result, WIDTH - 1) ^ carry)
    return result


@handles("SHR", template=modify, widths=SHIFT_SIZES, forms=FORMS, flags=CHANGED)
def shift_right_logically(state: int, a: int, count: int) -> int:
    """Shifts right, filling with zeros; OF is the sign of a for a shift by one, otherwise (undefined) 0.

    That is the sign of `almost`.
    """
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = shift_right(a, distance - 1)
    result = shift_right(almost, 1)
    set_result_flags(state, result, almost & 1, shift_right(almost, WIDTH - 1))
    return result


@handles("SAR", template=modify, widths=SHIFT_SIZES, forms=FORMS, flags=CHANGED)
def shift_right_arithmetically(state: int, a: int, count: int) -> int:
    """Shifts right, filling with the sign."""
    distance = distance_of(count)
    if distance == 0:
        return a
    almost = signed(WIDTH, a) >> (distance - 1)
    set_result_flags(state, almost >> 1, almost & 1, 0)
    return almost >> 1


# --- double shifts, which fill with the bits of the second operand ---


def modify_by_count(state: int, u: int) -> int:
    """first := OPERATION(first, second, third); the third is a count."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    b = second_value(state, u, host)
    count = get(8, state + RCX) if THIRD_KIND == REGISTER else field(8, u + IMMEDIATE)
    set_first(state, u, host, OPERATION(state, a, b, count))
    return DONE


@handles("SHLD", template=modify_by_count, widths=DOUBLE_SHIFT_SIZES, forms=DOUBLE_SHIFT_FORMS)
def shift_left_double(state: int, a: int, b: int, count: int) -> int:
    """The high half of a:b shifted left; 16 bits shifted by more than 16 are undefined, and leave the flags."""
    distance = distance_of(count)
    if distance == 0:
        return a
    if WIDTH == 64:
        result = (a << distance) | shift_right(b, 64 - distance)
    else:
        result = unsigned(WIDTH, shift_right(((a << WIDTH) | b) << distance, WIDTH))
    if distance <= WIDTH:
        carry = shift_right(a, WIDTH - distance) & 1
        set_result_flags(state, result, carry, shift_right(result ^ a, WIDTH - 1))
    return result


@handles("SHRD", template=modify_by_count, widths=DOUBLE_SHIFT_SIZES, forms=DOUBLE_SHIFT_FORMS)
def shift_right_double(state: int, a: int, b: int, count: int) -> int:
    """The low half of b:a shifted right; 16 bits shifted by more than 16 are undefined, and leave the flags."""
    distance = distance_of(count)
    if distance == 0:
        return a
    if WIDTH == 64:
        result = shift_right(a, distance) | (b << (64 - distance))
    else:
        result = unsigned(WIDTH, shift_right((b << WIDTH) | a, distance))
    if distance <= WIDTH:
        carry = shift_right(a, distance - 1) & 1
        set_result_flags(state, result, carry, shift_right(result ^ a, WIDTH - 1))
    return result
