"""Handlers of the fast model that each have one fault, for test_fast_proofs.py."""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, load, put, shift_right, store, unsigned
from fastmodel.decoded import ADDRESS, BASE, DISPLACEMENT, EXTRA, INDEX, SCALE, first_register
from fastmodel.decoder import FROM_OPCODE, FROM_REG, FROM_RM, MODRM, OPCODE, REX
from fastmodel.handlers.arithmetic import borrows_of_difference, carries_of_sum
from fastmodel.handlers.flags import (
    STATUS_FLAGS,
    condition,
    set_arithmetic_flags,
    set_result,
    set_result_flags,
    set_status_flags,
)
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    TAKEN,
    effective_address,
    first_value,
    operand_to_read,
    operand_to_write,
    second_value,
    set_first,
)
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.stack import RSP, push_value
from fastmodel.memory import (
    read_address,
    read_address_slowly,
    remember,
    translate_within_page,
    write_address,
)
from fastmodel.paging import WRITE
from fastmodel.state import (
    FIRST_GENERATION,
    MEMORY,
    READ_TLB,
    RFLAGS,
    RIP,
    TLB_ENTRIES,
    TLB_ENTRY,
    WIDE_ENTRIES,
    WRITE_TLB,
)


def add_without_auxiliary_carry(state: int, a: int, b: int) -> int:
    result = unsigned(WIDTH, a + b)
    set_arithmetic_flags(state, result, carries_of_sum(a, b, result) & ~8)
    return result


def subtract_without_borrow(state: int, a: int, b: int) -> int:
    result = unsigned(WIDTH, a - b)
    set_arithmetic_flags(state, result, borrows_of_difference(a, b, result))
    return result


def increment_with_carry(state: int, a: int) -> int:
    result = unsigned(WIDTH, a + 1)
    set_arithmetic_flags(state, result, carries_of_sum(a, 1, result))
    return result


def logical_and_keeping_carry(state: int, a: int, b: int) -> int:
    set_result(state, a & b)
    return a & b


def shift_left_by_63_at_most(state: int, a: int, count: int) -> int:
    distance = count & 63
    if distance == 0:
        return a
    result = unsigned(WIDTH, a << distance)
    set_result_flags(state, result, 0, 0)
    return result


def zero_extended(b: int) -> int:
    return b


def load_address_keeping_high_half(state: int, u: int) -> int:
    put(WIDTH, first_register(state, u), effective_address(state, u))
    return DONE


def move_if_without_zero_extension(state: int, u: int) -> int:
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    if condition(state, field(8, u + EXTRA)) != 0:
        set_first(state, u, host, second_value(state, u, host))
    return DONE


def set_if_not(state: int, u: int) -> int:
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    set_first(state, u, host, 1 - condition(state, field(8, u + EXTRA)))
    return DONE


def push_changing_top_first(state: int, u: int) -> int:
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    top = get(64, state + RSP) - WIDTH // 8
    put(64, state + RSP, top)
    place = write_address(state, top, WIDTH // 8)
    if place == 0:
        return REFUSED
    store(WIDTH, place, first_value(state, u, host))
    return DONE


def pop_flags_keeping_direction(state: int, u: int) -> int:  # noqa: ARG001
    top = get(64, state + RSP)
    place = read_address(state, top, WIDTH // 8)
    if place == 0:
        return REFUSED
    popped = load(WIDTH, place)
    if (popped ^ get(64, state + RFLAGS)) & 0x4_7300 != 0:
        return REFUSED
    set_status_flags(state, popped & STATUS_FLAGS)
    put(64, state + RSP, top + WIDTH // 8)
    return DONE


def return_anywhere(state: int, u: int) -> int:  # noqa: ARG001
    top = get(64, state + RSP)
    place = read_address(state, top, 8)
    if place == 0:
        return REFUSED
    put(64, state + RIP, load(64, place))
    put(64, state + RSP, top + 8)
    return DONE


def call_pushing_this_address(state: int, u: int) -> int:
    if push_value(state, field(64, u + ADDRESS)) != DONE:
        return REFUSED
    return TAKEN


# --- tables of translations ---


def read_address_by_first_byte(state: int, linear: int, size: int) -> int:
    entry = state + READ_TLB + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    if get(64, entry) == shift_right(linear, 12):
        return get(64, entry + 8) + linear
    return read_address_slowly(state, linear, size)


def known_of_any_generation(state: int, table: int, linear: int, size: int) -> int:  # noqa: ARG001
    entry = table + (shift_right(linear, 12) & (WIDE_ENTRIES - 1)) * TLB_ENTRY
    if field(64, entry) & (FIRST_GENERATION - 1) == shift_right(linear + size - 1, 12):
        return field(64, entry + 8) + linear
    return 0


def write_address_entering_code(state: int, linear: int, size: int) -> int:
    physical = translate_within_page(state, linear, size, WRITE)
    if physical < 0:
        return 0
    return remember(state + WRITE_TLB, linear, get(64, state + MEMORY) + physical)


def address_of_scales_up_to_two(state: int, u: int) -> int:
    base = get(64, state + field(8, u + BASE))
    index = get(64, state + field(8, u + INDEX))
    return base + (index << (field(8, u + SCALE) & 1)) + field(64, u + DISPLACEMENT)


def register_operand_with_another_rex_bit(state: int, source: int, is_byte: int) -> int:
    rex = get(64, state + REX)
    number = source & 15
    if source == FROM_REG:
        number = ((get(64, state + MODRM) >> 3) & 7) | ((rex & 2) << 2)
    elif source == FROM_RM:
        number = (get(64, state + MODRM) & 7) | ((rex & 1) << 3)
    elif source == FROM_OPCODE:
        number = (get(64, state + OPCODE) & 7) | ((rex & 1) << 3)
    if is_byte != 0 and rex == 0 and (number & ~3) == 4:
        return (number - 4) * 8 + 1
    return number * 8


def set_flags_of_another_parity(state: int, flags: int) -> int:
    return set_status_flags(state, flags ^ 4)
