"""Instructions that exchange their operands, or compare and exchange.  spec/instructions/data_movement.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, get, load, put, store, unsigned
from fastmodel.decoded import second_register
from fastmodel.handlers.arithmetic import add, subtract
from fastmodel.handlers.flags import ZF, replace_status_flags
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    first_value,
    operand_to_write,
    second_value,
    set_first,
    set_register,
)
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import SIZES, handles
from fastmodel.state import RAX, RBX, RCX, RDX


@handles("XCHG", widths=SIZES, forms="rr mr")
def exchange(state: int, u: int) -> int:
    """Swaps two operands."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    b = second_value(state, u, host)
    set_first(state, u, host, b)
    set_register(second_register(state, u), a)
    return DONE


@handles("XADD", widths=SIZES, forms="rr mr")
def exchange_and_add(state: int, u: int) -> int:
    """first := first + second, second := the old first; of one register the sum remains."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    total = add(state, a, second_value(state, u, host))
    set_register(second_register(state, u), a)
    set_first(state, u, host, total)
    return DONE


@handles("CMPXCHG", widths=SIZES, forms="rr mr")
def compare_and_exchange(state: int, u: int) -> int:
    """first := second if first is rAX, otherwise rAX := first."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = first_value(state, u, host)
    accumulator = get(WIDTH, state + RAX)
    if a == accumulator:
        set_first(state, u, host, second_value(state, u, host))
    else:
        set_register(state + RAX, a)
    subtract(state, accumulator, a)
    return DONE


@handles("CMPXCHG8B", widths=[(64,)], forms="m")
def compare_and_exchange_double(state: int, u: int) -> int:
    """first := ECX:EBX if first is EDX:EAX, otherwise EDX:EAX := first."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    a = load(64, host)
    is_equal = bit(a == (get(32, state + RDX) << 32) | get(32, state + RAX))
    if is_equal != 0:
        store(64, host, (get(32, state + RCX) << 32) | get(32, state + RBX))
    else:
        put(64, state + RDX, unsigned(32, a >> 32))
        put(64, state + RAX, unsigned(32, a))
    replace_status_flags(state, ZF, ZF * is_equal)
    return DONE
