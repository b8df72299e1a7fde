"""Integer addition and subtraction.  spec/instructions/arithmetic.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import unsigned
from fastmodel.handlers.flags import carry_flag, set_arithmetic_flags, set_flags_but_carry
from fastmodel.handlers.operands import change, compare, modify
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import CHANGED, ONE_SIZE, REPLACED, SIZES, handles

FORMS = "rr ri rm mr mi"
# The conditions of the Jcc that often follow a comparison, and those that follow a result.
ORDERS = ("E", "NE", "B", "AE", "BE", "A", "L", "GE", "LE", "G")
EQUALITIES = ("E", "NE")


def carries_of_sum(a: int, b: int, result: int) -> int:
    """The carry out of every bit of a + b, with or without a carry in."""
    return (a & b) | ((a | b) & ~result)


def borrows_of_difference(a: int, b: int, result: int) -> int:
    """The borrow out of every bit of a - b, with or without a borrow in."""
    return (~a & b) | ((~a | b) & result)


@handles("ADD", template=modify, widths=SIZES, forms=FORMS, flags=REPLACED)
def add(state: int, a: int, b: int) -> int:
    """a + b."""
    result = unsigned(WIDTH, a + b)
    set_arithmetic_flags(state, result, carries_of_sum(a, b, result))
    return result


@handles("ADC", template=modify, widths=SIZES, forms=FORMS)
def add_with_carry(state: int, a: int, b: int) -> int:
    """a + b + CF."""
    result = unsigned(WIDTH, a + b + carry_flag(state))
    set_arithmetic_flags(state, result, carries_of_sum(a, b, result))
    return result


@handles("SUB", template=modify, widths=SIZES, forms=FORMS, flags=REPLACED)
@handles("CMP", template=compare, widths=SIZES[2:], forms="rr ri", flags=REPLACED, fused=ORDERS)
@handles("CMP", template=compare, widths=SIZES[2:], forms="rm mr mi", fused=EQUALITIES)
@handles("CMP", template=compare, widths=SIZES[:1], forms="ri mi", flags=REPLACED, fused=EQUALITIES)
@handles("CMP", template=compare, widths=SIZES[:1], forms="rr rm mr", flags=REPLACED)
@handles("CMP", template=compare, widths=SIZES[1:2], forms=FORMS, flags=REPLACED)
def subtract(state: int, a: int, b: int) -> int:
    """a - b."""
    result = unsigned(WIDTH, a - b)
    set_arithmetic_flags(state, result, borrows_of_difference(a, b, result))
    return result


@handles("SBB", template=modify, widths=SIZES, forms=FORMS)
def subtract_with_borrow(state: int, a: int, b: int) -> int:
    """a - b - CF."""
    result = unsigned(WIDTH, a - b - carry_flag(state))
    set_arithmetic_flags(state, result, borrows_of_difference(a, b, result))
    return result


@handles("INC", template=change, widths=ONE_SIZE, forms="r m", flags=CHANGED)
def increment(state: int, a: int) -> int:
    """a + 1."""
    result = unsigned(WIDTH, a + 1)
    set_flags_but_carry(state, result, carries_of_sum(a, 1, result))
    return result


@handles("DEC", template=change, widths=ONE_SIZE[:2], forms="r m", flags=CHANGED)
@handles("DEC", template=change, widths=ONE_SIZE[2:], forms="r", flags=CHANGED, fused=EQUALITIES)
@handles("DEC", template=change, widths=ONE_SIZE[2:], forms="m")
def decrement(state: int, a: int) -> int:
    """a - 1."""
    result = unsigned(WIDTH, a - 1)
    set_flags_but_carry(state, result, borrows_of_difference(a, 1, result))
    return result


@handles("NEG", template=change, widths=ONE_SIZE, forms="r m", flags=REPLACED)
def negate(state: int, a: int) -> int:
    """-a."""
    return subtract(state, 0, a)
