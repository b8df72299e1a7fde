"""String instructions, and XLAT.  spec/instructions/string.isa

A handler does one iteration. With a REP prefix it is a branch to itself while iterations are left, and RF is set
meanwhile: so each iteration counts as an instruction, can be the last of a run, and faults exactly.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, field, get, load, put, store
from fastmodel.decoded import REPEAT as REPEAT_PREFIX
from fastmodel.handlers.arithmetic import subtract
from fastmodel.handlers.flag_control import DF
from fastmodel.handlers.flags import RF, zero_flag
from fastmodel.handlers.operands import DONE, REFUSED, set_register
from fastmodel.handlers.parameters import WIDTH
from fastmodel.handlers.registry import REPEAT, SIZES, handles
from fastmodel.memory import read_address, write_address
from fastmodel.state import RAX, RBX, RCX, RDI, RFLAGS, RSI

REPE = 0xF3


def has_iteration(state: int, u: int) -> bool:
    """Whether there is an iteration to do: not if a prefix counts RCX down and that is 0."""
    return field(8, u + REPEAT_PREFIX) == 0 or get(64, state + RCX) != 0


def advance(state: int, register: int) -> int:
    """Moves RSI or RDI on to the next element, downwards if DF is set."""
    backwards = bit(get(64, state + RFLAGS) & DF != 0)
    put(64, state + register, get(64, state + register) + WIDTH // 8 - backwards * (WIDTH // 4))
    return 0


def end_iteration(state: int, u: int, goes_on: int) -> int:
    """Ends an iteration: TAKEN, and RF set, if there is another."""
    again = 0
    if field(8, u + REPEAT_PREFIX) != 0:
        count = get(64, state + RCX) - 1
        put(64, state + RCX, count)
        again = goes_on & bit(count != 0)
    put(64, state + RFLAGS, (get(64, state + RFLAGS) & ~RF) | again * RF)
    return again


def no_iteration(state: int) -> int:
    """Ends an instruction that RCX gives no iteration."""
    put(64, state + RFLAGS, get(64, state + RFLAGS) & ~RF)
    return DONE


def still_equal(state: int, u: int) -> int:
    """1 while REPE finds elements equal, or REPNE finds them different."""
    return zero_flag(state) ^ bit(field(8, u + REPEAT_PREFIX) != REPE)


@handles("MOVS", widths=SIZES, forms="mm", flow=REPEAT)
def move_string(state: int, u: int) -> int:
    """Copies an element."""
    if not has_iteration(state, u):
        return no_iteration(state)
    source = read_address(state, get(64, state + RSI), WIDTH // 8)
    if source == 0:
        return REFUSED
    destination = write_address(state, get(64, state + RDI), WIDTH // 8)
    if destination == 0:
        return REFUSED
    store(WIDTH, destination, load(WIDTH, source))
    advance(state, RSI)
    advance(state, RDI)
    return end_iteration(state, u, 1)


@handles("STOS", widths=SIZES, forms="mr", flow=REPEAT)
def store_string(state: int, u: int) -> int:
    """Stores rAX in an element."""
    if not has_iteration(state, u):
        return no_iteration(state)
    destination = write_address(state, get(64, state + RDI), WIDTH // 8)
    if destination == 0:
        return REFUSED
    store(WIDTH, destination, get(WIDTH, state + RAX))
    advance(state, RDI)
    return end_iteration(state, u, 1)


@handles("LODS", widths=SIZES, forms="rm", flow=REPEAT)
def load_string(state: int, u: int) -> int:
    """Loads an element into rAX."""
    if not has_iteration(state, u):
        return no_iteration(state)
    source = read_address(state, get(64, state + RSI), WIDTH // 8)
    if source == 0:
        return REFUSED
    set_register(state + RAX, load(WIDTH, source))
    advance(state, RSI)
    return end_iteration(state, u, 1)


@handles("SCAS", widths=SIZES, forms="rm", flow=REPEAT)
def scan_string(state: int, u: int) -> int:
    """Compares rAX with an element."""
    if not has_iteration(state, u):
        return no_iteration(state)
    source = read_address(state, get(64, state + RDI), WIDTH // 8)
    if source == 0:
        return REFUSED
    subtract(state, get(WIDTH, state + RAX), load(WIDTH, source))
    advance(state, RDI)
    return end_iteration(state, u, still_equal(state, u))


@handles("CMPS", widths=SIZES, forms="mm", flow=REPEAT)
def compare_strings(state: int, u: int) -> int:
    """Compares two elements."""
    if not has_iteration(state, u):
        return no_iteration(state)
    first = read_address(state, get(64, state + RSI), WIDTH // 8)
    if first == 0:
        return REFUSED
    second = read_address(state, get(64, state + RDI), WIDTH // 8)
    if second == 0:
        return REFUSED
    subtract(state, load(WIDTH, first), load(WIDTH, second))
    advance(state, RSI)
    advance(state, RDI)
    return end_iteration(state, u, still_equal(state, u))


@handles("XLAT", widths=[(None,)], forms="m")
def translate_byte(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """AL := the byte at RBX + AL."""
    place = read_address(state, get(64, state + RBX) + get(8, state + RAX), 1)
    if place == 0:
        return REFUSED
    put(8, state + RAX, load(8, place))
    return DONE
