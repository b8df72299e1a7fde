"""The stack.  spec/instructions/stack.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import get, load, put, store
from fastmodel.decoded import first_register
from fastmodel.handlers.flags import STATUS_FLAGS, rflags, set_status_flags
from fastmodel.handlers.operands import DONE, REFUSED, first_value, operand_to_read, set_register
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import Widths, handles
from fastmodel.memory import read_address, write_address
from fastmodel.state import RBP, REASON, RFLAGS, RSP, SYSTEM_FLAGS

STACK_SIZES: tuple[Widths, ...] = ((16,), (64,))

RF_AND_VM = 0x3_0000
DF_AND_ID = 0x20_0400
# Flags that POPF may change: TF IF IOPL NT AC.
OTHER_POPPED_FLAGS = 0x4_7300
LOW_HALF = 0xFFFF


@handles("PUSH", widths=STACK_SIZES, forms="r m i")
def push(state: int, u: int) -> int:
    """Pushes the operand; PUSH RSP pushes the old value."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    value = first_value(state, u, host)
    return push_value(state, value)


def push_value(state: int, value: int) -> int:
    """Pushes WIDTH bits."""
    top = get(64, state + RSP) - WIDTH // 8
    place = write_address(state, top, WIDTH // 8)
    if place == 0:
        return REFUSED
    store(WIDTH, place, value)
    put(64, state + RSP, top)
    return DONE


@handles("POP", widths=STACK_SIZES, forms="r")
def pop(state: int, u: int) -> int:
    """Pops into a register; POP RSP keeps the popped value."""
    top = get(64, state + RSP)
    place = read_address(state, top, WIDTH // 8)
    if place == 0:
        return REFUSED
    put(64, state + RSP, top + WIDTH // 8)
    set_register(first_register(state, u), load(WIDTH, place))
    return DONE


@handles("LEAVE", widths=STACK_SIZES, forms="r")
def leave(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Pops rBP from where it points to."""
    bottom = get(64, state + RBP)
    place = read_address(state, bottom, WIDTH // 8)
    if place == 0:
        return REFUSED
    put(WIDTH, state + RBP, load(WIDTH, place))
    put(64, state + RSP, bottom + WIDTH // 8)
    return DONE


@handles("PUSHFQ", widths=STACK_SIZES, forms="r")
def push_flags(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Pushes RFLAGS with RF and VM cleared."""
    return push_value(state, rflags(state) & ~RF_AND_VM)


@handles("POPFQ", widths=STACK_SIZES, forms="r")
def pop_flags(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Pops RFLAGS, if only the status flags, DF and ID change."""
    top = get(64, state + RSP)
    place = read_address(state, top, WIDTH // 8)
    if place == 0:
        return REFUSED
    before = get(64, state + RFLAGS)
    popped = load(WIDTH, place)
    if WIDTH == 16:
        popped = popped | (before & ~LOW_HALF)
    if (popped ^ before) & OTHER_POPPED_FLAGS != 0:
        put(64, state + REASON, SYSTEM_FLAGS)
        return REFUSED
    set_status_flags(state, popped & STATUS_FLAGS)
    put(64, state + RFLAGS, before ^ ((popped ^ before) & DF_AND_ID))
    put(64, state + RSP, top + WIDTH // 8)
    return DONE
