"""Near branches.  spec/instructions/control_transfer.isa, conditional.isa

A branch to an address that is not canonical is refused before anything changes; the decoder refuses such direct ones.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, field, get, load, put, signed
from fastmodel.decoded import IMMEDIATE, NEXT
from fastmodel.handlers.flags import condition, zero_flag
from fastmodel.handlers.operands import DONE, REFUSED, TAKEN, first_value, operand_to_read
from fastmodel.handlers.parameters import CONDITION
from fastmodel.handlers.registry import BRANCH, CONDITIONAL, CONDITIONS, JUMP, handles
from fastmodel.handlers.stack import push_value
from fastmodel.memory import read_address
from fastmodel.state import BAD_TARGET, RCX, REASON, RIP, RSP


def jump_if(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Jcc."""
    return condition(state, CONDITION)


for number, name in enumerate(CONDITIONS):
    handles(f"J{name}", widths=[(64,)], forms="i", flow=CONDITIONAL, condition=number)(jump_if)


@handles("LOOP", widths=[(64,)], forms="i", flow=CONDITIONAL)
def loop(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Counts RCX down and jumps if it is not 0."""
    return count_down(state, 1)


@handles("LOOPE", widths=[(64,)], forms="i", flow=CONDITIONAL)
def loop_while_equal(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """LOOP while ZF is set."""
    return count_down(state, zero_flag(state))


@handles("LOOPNE", widths=[(64,)], forms="i", flow=CONDITIONAL)
def loop_while_not_equal(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """LOOP while ZF is clear."""
    return count_down(state, 1 - zero_flag(state))


def count_down(state: int, goes_on: int) -> int:
    """Counts RCX down; TAKEN if it is not 0 and `goes_on` is 1."""
    count = get(64, state + RCX) - 1
    put(64, state + RCX, count)
    return goes_on & bit(count != 0)


@handles("JRCXZ", widths=[(64,)], forms="i", flow=CONDITIONAL)
def jump_if_no_count(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Jumps if RCX is 0."""
    return bit(get(64, state + RCX) == 0)


@handles("JMP", widths=[(64,)], forms="i", flow=BRANCH)
def jump(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """JMP to a relative address."""
    return TAKEN


@handles("CALL", widths=[(64,)], forms="i", flow=BRANCH)
def call(state: int, u: int) -> int:
    """CALL of a relative address."""
    if push_value(state, field(64, u + NEXT)) != DONE:
        return REFUSED
    return TAKEN


@handles("JMP", widths=[(64,)], forms="r m", flow=JUMP)
def jump_indirectly(state: int, u: int) -> int:
    """JMP to an address in a register or memory."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    return go_to(state, first_value(state, u, host))


@handles("CALL", widths=[(64,)], forms="r m", flow=JUMP)
def call_indirectly(state: int, u: int) -> int:
    """CALL of an address in a register or memory."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    target = first_value(state, u, host)
    if go_to(state, target) != DONE:
        return REFUSED
    return push_value(state, field(64, u + NEXT))


@handles("RET", widths=[(64,)], forms="r", flow=JUMP)
def return_(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """RET."""
    return return_and_release(state, 0)


@handles("RET_RELEASE", widths=[(16, 64)], forms="ir", flow=JUMP)
def return_releasing(state: int, u: int) -> int:
    """RET that releases bytes of parameters."""
    return return_and_release(state, field(16, u + IMMEDIATE))


def return_and_release(state: int, size: int) -> int:
    """Pops the address to continue at, then `size` bytes more."""
    top = get(64, state + RSP)
    place = read_address(state, top, 8)
    if place == 0:
        return REFUSED
    if go_to(state, load(64, place)) != DONE:
        return REFUSED
    put(64, state + RSP, top + 8 + size)
    return DONE


def go_to(state: int, target: int) -> int:
    """Sets RIP, if the target is canonical; a caller that fails afterwards leaves a RIP that does not count."""
    if signed(48, target) != target:
        put(64, state + REASON, BAD_TARGET)
        return REFUSED
    put(64, state + RIP, target)
    return DONE
