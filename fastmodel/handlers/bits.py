"""Bit tests, bit scans and BSWAP.  spec/instructions/logic.isa, data_movement.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, highest_bit, lowest_bit, shift_right, signed
from fastmodel.handlers.flags import ZF, replace_status_flags, set_carry_flag
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    change,
    effective_address,
    first_value,
    modify,
    operand_to_read,
    operand_to_write,
    second_value,
    set_first,
)
from fastmodel.handlers.parameters import FIRST_KIND, MEMORY, OPERATION, REGISTER, SECOND_KIND, WIDTH
from fastmodel.handlers.registry import ONE_SIZE, SIZES_16_UP, Widths, handles
from fastmodel.memory import read_address, write_address

IMMEDIATE_SIZES: tuple[Widths, ...] = ((16, 8), (32, 8), (64, 8))


# --- bit tests: an offset in a register reaches beyond a memory operand, others count modulo the width ---


def bit_string_address(state: int, u: int) -> int:
    """The address of the WIDTH bits that hold the bit at a signed offset in a register."""
    offset = signed(WIDTH, second_value(state, u, 0))
    return effective_address(state, u) + ((offset & -WIDTH) >> 3)


@handles("BT", widths=SIZES_16_UP, forms="rr mr")
@handles("BT", widths=IMMEDIATE_SIZES, forms="ri mi")
def test_bit(state: int, u: int) -> int:
    """Copies a bit to CF."""
    if FIRST_KIND == MEMORY and SECOND_KIND == REGISTER:
        host = read_address(state, bit_string_address(state, u), WIDTH // 8)
    else:
        host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    position = second_value(state, u, host) & (WIDTH - 1)
    set_carry_flag(state, shift_right(first_value(state, u, host), position) & 1)
    return DONE


def change_bit(state: int, u: int) -> int:
    """Copies a bit to CF, then first := OPERATION(first, that bit)."""
    if FIRST_KIND == MEMORY and SECOND_KIND == REGISTER:
        host = write_address(state, bit_string_address(state, u), WIDTH // 8)
    else:
        host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    position = second_value(state, u, host) & (WIDTH - 1)
    set_carry_flag(state, shift_right(a, position) & 1)
    set_first(state, u, host, OPERATION(a, 1 << position))
    return DONE


@handles("BTS", template=change_bit, widths=SIZES_16_UP, forms="rr mr")
@handles("BTS", template=change_bit, widths=IMMEDIATE_SIZES, forms="ri mi")
def set_bit(a: int, chosen: int) -> int:
    """Sets the bit."""
    return a | chosen


@handles("BTR", template=change_bit, widths=SIZES_16_UP, forms="rr mr")
@handles("BTR", template=change_bit, widths=IMMEDIATE_SIZES, forms="ri mi")
def clear_bit(a: int, chosen: int) -> int:
    """Clears the bit."""
    return a & ~chosen


@handles("BTC", template=change_bit, widths=SIZES_16_UP, forms="rr mr")
@handles("BTC", template=change_bit, widths=IMMEDIATE_SIZES, forms="ri mi")
def invert_bit(a: int, chosen: int) -> int:
    """Inverts the bit."""
    return a ^ chosen


# --- bit scans: of 0 they leave the register, and set ZF ---


@handles("BSF", template=modify, widths=SIZES_16_UP, forms="rr rm")
def scan_forward(state: int, a: int, b: int) -> int:
    """The number of the lowest bit."""
    replace_status_flags(state, ZF, ZF * bit(b == 0))
    return a if b == 0 else lowest_bit(b)


@handles("BSR", template=modify, widths=SIZES_16_UP, forms="rr rm")
def scan_backward(state: int, a: int, b: int) -> int:
    """The number of the highest bit."""
    replace_status_flags(state, ZF, ZF * bit(b == 0))
    return a if b == 0 else highest_bit(b)


# --- bytes ---

ODD_BYTES = 0x00FF_00FF_00FF_00FF
ODD_WORDS = 0x0000_FFFF_0000_FFFF


@handles("BSWAP", template=change, widths=ONE_SIZE[1:], forms="r")
def reverse_bytes(state: int, a: int) -> int:  # noqa: ARG001  an operation is given the state
    """Reverses the bytes; of a word the result (undefined) is 0."""
    if WIDTH == 16:
        return 0
    pairs = (shift_right(a, 8) & ODD_BYTES) | ((a & ODD_BYTES) << 8)
    words = (shift_right(pairs, 16) & ODD_WORDS) | ((pairs & ODD_WORDS) << 16)
    return shift_right((words << 32) | shift_right(words, 32), 64 - WIDTH)
