"""Multiplication and division.  spec/instructions/multiplication.isa

Division errors are left to the reference, and so are dividends of 128 bits whose high half is not 0, signed division of
64 bits by negative numbers, and that of 8 and 16 bits, which compilers do in 32.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import (
    below,
    bit,
    field,
    get,
    high_product,
    put,
    quotient,
    remainder,
    shift_right,
    signed,
    signed_high_product,
    unsigned,
)
from fastmodel.decoded import IMMEDIATE, first_register
from fastmodel.handlers.flags import set_result_flags
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    first_value,
    modify,
    operand_to_read,
    second_value,
    set_register,
)
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import ONE_SIZE, REPLACED, SIZES_16_UP, Widths, handles
from fastmodel.state import NO_HANDLER, RAX, RDX, REASON

PRODUCTS: tuple[Widths, ...] = ((16, 16, 16), (32, 32, 32), (64, 64, 64))


def set_double(state: int, high: int, low: int) -> int:
    """Writes rDX and rAX, or AH and AL."""
    if WIDTH == 8:
        put(16, state + RAX, (high << 8) | low)
    else:
        set_register(state + RAX, low)
        set_register(state + RDX, high)
    return DONE


@handles("MUL", widths=ONE_SIZE, forms="r m")
def multiply(state: int, u: int) -> int:
    """rDX:rAX := rAX * first, unsigned; CF and OF tell whether the high half is not 0."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    a = get(WIDTH, state + RAX)
    b = first_value(state, u, host)
    low = unsigned(WIDTH, a * b)
    high = high_product(a, b) if WIDTH == 64 else unsigned(WIDTH, (a * b) >> WIDTH)
    set_result_flags(state, low, bit(high != 0), bit(high != 0))
    return set_double(state, high, low)


@handles("IMUL", widths=ONE_SIZE, forms="r m")
def multiply_signed(state: int, u: int) -> int:
    """rDX:rAX := rAX * first, signed."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    a = signed(WIDTH, get(WIDTH, state + RAX))
    b = signed(WIDTH, first_value(state, u, host))
    low = signed_product(state, a, b)
    return set_double(state, signed_high(a, b), low)


def signed_high(a: int, b: int) -> int:
    """The high half of a product of two signed numbers of WIDTH bits."""
    return signed_high_product(a, b) if WIDTH == 64 else unsigned(WIDTH, (a * b) >> WIDTH)


def signed_product(state: int, a: int, b: int) -> int:
    """The low half; CF and OF tell whether the high half is more than its sign."""
    low = unsigned(WIDTH, a * b)
    significant = bit(signed(WIDTH, signed_high(a, b)) != signed(WIDTH, low) >> 63)
    set_result_flags(state, low, significant, significant)
    return low


@handles("IMUL_2", template=modify, widths=SIZES_16_UP, forms="rr rm", flags=REPLACED)
def multiply_two(state: int, a: int, b: int) -> int:
    """a * b, signed."""
    return signed_product(state, signed(WIDTH, a), signed(WIDTH, b))


@handles("IMUL_3", widths=PRODUCTS, forms="rri rmi", flags=REPLACED)
def multiply_by_immediate(state: int, u: int) -> int:
    """first := second * third, signed."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    a = signed(WIDTH, second_value(state, u, host))
    set_register(first_register(state, u), signed_product(state, a, signed(WIDTH, field(64, u + IMMEDIATE))))
    return DONE


# --- division; the flags are undefined, and stay as they are ---


def left_to_reference(state: int) -> int:
    """Refuses a division error, or a dividend that is too long."""
    put(64, state + REASON, NO_HANDLER)
    return REFUSED


def low_dividend(state: int) -> int:
    """The number in rDX:rAX, or AX; of 128 bits the low half."""
    if WIDTH == 8:
        return get(16, state + RAX)
    if WIDTH == 64:
        return get(64, state + RAX)
    return (get(WIDTH, state + RDX) << WIDTH) | get(WIDTH, state + RAX)


@handles("DIV", widths=ONE_SIZE, forms="r m")
def divide(state: int, u: int) -> int:
    """Divides rDX:rAX by the operand, unsigned: rAX := quotient, rDX := remainder."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    b = first_value(state, u, host)
    if b == 0 or (WIDTH == 64 and get(64, state + RDX) != 0):
        return left_to_reference(state)
    a = low_dividend(state)
    result = quotient(a, b)
    if WIDTH != 64 and not below(result, 1 << WIDTH):
        return left_to_reference(state)
    return set_double(state, remainder(a, b), result)


@handles("IDIV", widths=ONE_SIZE[2:], forms="r m")
def divide_signed(state: int, u: int) -> int:
    """Divides rDX:rAX by the operand, signed, rounding towards zero."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    b = signed(WIDTH, first_value(state, u, host))
    a = low_dividend(state)
    if b == 0:
        return left_to_reference(state)
    if WIDTH == 64 and (get(64, state + RDX) != 0 or shift_right(a, 63) != 0 or shift_right(b, 63) != 0):
        return left_to_reference(state)
    size = quotient(magnitude(a), magnitude(b))
    rest = remainder(magnitude(a), magnitude(b))
    result = negated_with(negated_with(size, a), b)
    if signed(WIDTH, result) != result or (shift_right(size, 63) != 0 and result == size):
        return left_to_reference(state)
    return set_double(state, unsigned(WIDTH, negated_with(rest, a)), unsigned(WIDTH, result))


def magnitude(a: int) -> int:
    """The absolute value, as an unsigned number."""
    return negated_with(a, a)


def negated_with(value: int, sign: int) -> int:
    """The value negated if `sign` is negative, which is asked as the specification does."""
    return -value if shift_right(sign, 63) != 0 else value
