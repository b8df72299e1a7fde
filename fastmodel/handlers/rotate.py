"""Rotations, which change CF and OF only.  spec/instructions/rotate.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, shift_right, unsigned
from fastmodel.handlers.flags import carry_flag, set_carry_and_overflow
from fastmodel.handlers.operands import modify
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import handles
from fastmodel.handlers.shift import FORMS, SHIFT_SIZES, distance_of


def bit_of(value: int, number: int) -> int:
    """One bit of a value."""
    return shift_right(value, number) & 1


@handles("ROL", template=modify, widths=SHIFT_SIZES, forms=FORMS)
def rotate_left(state: int, a: int, count: int) -> int:
    """Rotates left; CF is the bit that came in on the right."""
    distance = distance_of(count)
    if distance == 0:
        return a
    turn = distance & (WIDTH - 1)
    result = unsigned(WIDTH, (a << turn) | shift_right(a, WIDTH - turn))
    set_carry_and_overflow(state, result & 1, bit_of(result, WIDTH - 1) ^ (result & 1))
    return result


@handles("ROR", template=modify, widths=SHIFT_SIZES, forms=FORMS)
def rotate_right(state: int, a: int, count: int) -> int:
    """Rotates right; CF is the bit that came in on the left."""
    distance = distance_of(count)
    if distance == 0:
        return a
    turn = distance & (WIDTH - 1)
    result = unsigned(WIDTH, shift_right(a, turn) | (a << (WIDTH - turn)))
    top = bit_of(result, WIDTH - 1)
    set_carry_and_overflow(state, top, top ^ bit_of(result, WIDTH - 2))
    return result


def turn_of_ring(distance: int) -> int:
    """How far a count turns a ring of WIDTH + 1 bits: the count modulo their number."""
    if WIDTH == 8:
        return distance - 9 * (bit(distance >= 9) + bit(distance >= 18) + bit(distance >= 27))
    if WIDTH == 16:
        return distance - 17 * bit(distance >= 17)
    return distance


@handles("RCL", template=modify, widths=SHIFT_SIZES, forms=FORMS)
def rotate_left_through_carry(state: int, a: int, count: int) -> int:
    """Rotates left a ring of CF and the operand."""
    distance = distance_of(count)
    if distance == 0:
        return a
    turn = turn_of_ring(distance)
    carry = carry_flag(state)
    result = a
    if turn != 0:
        low = (carry << (turn - 1)) | shift_right(shift_right(a, WIDTH - turn), 1)
        carry = bit_of(a, WIDTH - turn)
        result = unsigned(WIDTH, (a << turn) | low)
    set_carry_and_overflow(state, carry, carry ^ bit_of(result, WIDTH - 1))
    return result


@handles("RCR", template=modify, widths=SHIFT_SIZES, forms=FORMS)
def rotate_right_through_carry(state: int, a: int, count: int) -> int:
    """Rotates right a ring of CF and the operand."""
    distance = distance_of(count)
    if distance == 0:
        return a
    turn = turn_of_ring(distance)
    carry = carry_flag(state)
    result = a
    if turn != 0:
        high = (carry << (WIDTH - turn)) | ((a << (WIDTH - turn)) << 1)
        carry = bit_of(a, turn - 1)
        result = unsigned(WIDTH, shift_right(a, turn) | high)
    set_carry_and_overflow(state, carry, bit_of(result, WIDTH - 1) ^ bit_of(result, WIDTH - 2))
    return result
