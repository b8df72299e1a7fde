"""Operands, and the templates that most handlers are made with.

A template reads the operands, calls OPERATION and writes the result. Before it changes anything it has made sure that
nothing can fail any more: a memory operand that cannot be used gives `REFUSED`, and nothing happened.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, load, put, store, unsigned
from fastmodel.decoded import BASE, DISPLACEMENT, IMMEDIATE, INDEX, SCALE, first_register, second_register
from fastmodel.handlers.parameters import (
    FIRST_KIND,
    MEMORY,
    OPERATION,
    REGISTER,
    SECOND_KIND,
    SECOND_WIDTH,
    WIDTH,
)
from fastmodel.memory import read_address, write_address

# What a handler returns. A branch may also return TAKEN.
DONE = 0
TAKEN = 1
REFUSED = -1


# --- operands ---


def effective_address(state: int, u: int) -> int:
    """The linear address of the memory operand."""
    base = get(64, state + field(8, u + BASE))
    index = get(64, state + field(8, u + INDEX))
    return base + (index << field(8, u + SCALE)) + field(64, u + DISPLACEMENT)


def operand_to_read(state: int, u: int) -> int:
    """Where the memory operand is read, 0 if it cannot be; anything else if there is none."""
    if FIRST_KIND == MEMORY:
        return read_address(state, effective_address(state, u), WIDTH // 8)
    if SECOND_KIND == MEMORY:
        return read_address(state, effective_address(state, u), SECOND_WIDTH // 8)
    return 1


def operand_to_write(state: int, u: int) -> int:
    """As `operand_to_read`, but if the first operand is memory it will be written."""
    if FIRST_KIND == MEMORY:
        return write_address(state, effective_address(state, u), WIDTH // 8)
    return operand_to_read(state, u)


def first_value(state: int, u: int, host: int) -> int:
    """The first operand, zero-extended; `host` is where a memory operand lies."""
    if FIRST_KIND == REGISTER:
        return get(WIDTH, first_register(state, u))
    if FIRST_KIND == MEMORY:
        return load(WIDTH, host)
    return unsigned(WIDTH, field(64, u + IMMEDIATE))


def second_value(state: int, u: int, host: int) -> int:
    """The second operand, zero-extended."""
    if SECOND_KIND == REGISTER:
        return get(SECOND_WIDTH, second_register(state, u))
    if SECOND_KIND == MEMORY:
        return load(SECOND_WIDTH, host)
    return unsigned(SECOND_WIDTH, field(64, u + IMMEDIATE))


def set_register(address: int, value: int) -> int:
    """Writes a register of WIDTH bits; 32 bits are zero-extended, fewer leave the others as they are."""
    if WIDTH == 32:
        put(64, address, unsigned(32, value))
    else:
        put(WIDTH, address, value)
    return 0


def set_first(state: int, u: int, host: int, value: int) -> int:
    """Writes the first operand."""
    if FIRST_KIND == MEMORY:
        store(WIDTH, host, value)
    else:
        set_register(first_register(state, u), value)
    return 0


# --- templates ---


def modify(state: int, u: int) -> int:
    """first := OPERATION(first, second)."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    b = second_value(state, u, host)
    set_first(state, u, host, OPERATION(state, a, b))
    return DONE


def compare(state: int, u: int) -> int:
    """OPERATION(first, second), for the flags it sets."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    b = second_value(state, u, host)
    OPERATION(state, a, b)
    return DONE


def change(state: int, u: int) -> int:
    """first := OPERATION(first)."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    set_first(state, u, host, OPERATION(state, a))
    return DONE


def copy(state: int, u: int) -> int:
    """first := OPERATION(second)."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    b = second_value(state, u, host)
    set_first(state, u, host, OPERATION(b))
    return DONE
