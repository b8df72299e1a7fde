"""The run loop: finds the decoded instructions at RIP, runs them, and handles what the routines leave to it.

A *routine* is a handler and the way on from it. In threaded code each jumps to the next by itself; otherwise it
returns the next decoded instruction, and `enter` calls that one's routine. `spare` counts instructions down: how many
more may be executed than the longest trace has. It is exact at every place where a run can stop: a trace is entered
only if it fits, and a branch subtracts what ran before.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmodel.compiler.primitives import (
    bit,
    field,
    get,
    invoke,
    parameter,
    put,
    set_field,
    shift_right,
    slow,
)
from fastmodel.decoded import ADDRESS, COUNT, DECODED_SIZE, IMMEDIATE, LINK, TRACE_LIMIT
from fastmodel.handlers.flags import RF, rflags, set_status_flags
from fastmodel.handlers.operands import DONE, REFUSED, TAKEN
from fastmodel.memory import forget_translations
from fastmodel.paging import unmark_used
from fastmodel.state import (
    ALONE,
    BUDGET,
    CARRIES,
    CODE_WRITE,
    CODE_WRITES,
    DECODED_LAST,
    DECODED_NEXT,
    FLAG_WRITE,
    GENERATION,
    PLACE,
    REASON,
    REMAINING,
    RESULT,
    RESUME_AT,
    RESUME_FLAG,
    RFLAGS,
    RIP,
    SAMPLE,
    STOP,
    STOPPED_INDIRECT,
    STOPPED_REFUSED,
    STOPPED_TAKEN,
    TRACE_SLOT,
    TRACE_SLOTS,
    TRACES,
    USES,
)
from fastmodel.traces import confirm_decoded, decode_trace, forget_decoded, keep_decoded

# The handler of a routine.
HANDLER: Callable[[int, int], int] = parameter("HANDLER")

# 1 if the routine of a branch runs the handler of the instruction before it too, BEFORE.
FUSED: int = parameter("FUSED")
BEFORE: Callable[[int, int], int] = parameter("BEFORE")

# 1 in threaded code.
THREADED: int = parameter("THREADED")

# How a routine goes on at a place: `proceed` in threaded code, otherwise `hand_over`.
GO_ON: Callable[[int, int, int], int] = parameter("GO_ON")


# --- routines ---


def step(state: int, u: int, spare: int) -> int:
    """A handler that is followed by the next instruction."""
    if HANDLER(state, u) != DONE:
        return stop_before(state, u, spare)
    return GO_ON(state, u + DECODED_SIZE, spare)


def unseen_step(state: int, u: int, spare: int) -> int:
    """As `step` for a handler that completes always, and whose flags nothing looks at: they stay as they were."""
    result = get(64, state + RESULT)
    carries = get(64, state + CARRIES)
    HANDLER(state, u)
    put(64, state + RESULT, result)
    put(64, state + CARRIES, carries)
    return GO_ON(state, u + DECODED_SIZE, spare)


def branch(state: int, u: int, spare: int) -> int:
    """A direct branch, perhaps with the instruction before it."""
    if FUSED:
        if BEFORE(state, u) != DONE:
            return stop_before(state, u, spare)
        u = u + DECODED_SIZE
    outcome = HANDLER(state, u)
    if outcome == REFUSED:
        return stop_before(state, u, spare)
    spare = spare - field(8, u + COUNT)
    if outcome == TAKEN:
        link = field(64, u + LINK)
        if spare < 0 or link == 0:
            return stop(state, u, spare, STOPPED_TAKEN)
        return GO_ON(state, link, spare)
    return GO_ON(state, u + DECODED_SIZE, spare)


def jump(state: int, u: int, spare: int) -> int:
    """An indirect branch; the trace at its target is looked for here, since most are known."""
    if HANDLER(state, u) != DONE:
        return stop_before(state, u, spare)
    spare = spare - field(8, u + COUNT)
    place = known_trace(state, get(64, state + RIP))
    if spare < 0 or place == 0:
        return stop(state, u, spare, STOPPED_INDIRECT)
    return GO_ON(state, place, spare)


def refuse(state: int, u: int, spare: int) -> int:
    """Stands for an instruction without a handler; its reason is in IMMEDIATE."""
    put(64, state + REASON, field(64, u + IMMEDIATE))
    return stop_before(state, u, spare)


def end_of_trace(state: int, u: int, spare: int) -> int:
    """Stands behind the last instruction of a trace: a branch to the instruction at IMMEDIATE that counts for none."""
    spare = spare - field(8, u + COUNT)
    link = field(64, u + LINK)
    if spare < 0 or link == 0:
        return stop(state, u, spare, STOPPED_TAKEN)
    return GO_ON(state, link, spare)


def hand_over(state: int, u: int, spare: int) -> int:
    """Goes on at a place by returning it."""
    put(64, state + REMAINING, spare + TRACE_LIMIT)
    return u


@slow
def stop_before(state: int, u: int, spare: int) -> int:
    """Leaves the routines before the instruction at `u`, which is refused."""
    return stop(state, u, spare - field(8, u + COUNT) + 1, STOPPED_REFUSED)


@slow
def stop(state: int, u: int, spare: int, why: int) -> int:
    """Leaves the routines."""
    put(64, state + REMAINING, spare + TRACE_LIMIT)
    put(64, state + PLACE, u)
    put(64, state + STOP, why)
    return 0


# --- traces ---


def known_trace(state: int, rip: int) -> int:
    """The decoded instructions at an address, 0 if there are none."""
    slot = get(64, state + TRACES) + ((rip ^ shift_right(rip, 12)) & (TRACE_SLOTS - 1)) * TRACE_SLOT
    if field(64, slot) == rip ^ get(64, state + GENERATION):
        return field(64, slot + 8)
    return 0


@slow
def find_trace(state: int, remaining: int) -> int:
    """The decoded instructions at RIP; 0, with REASON set, if they cannot be fetched."""
    rip = get(64, state + RIP)
    if remaining < TRACE_LIMIT:
        put(64, state + SAMPLE, rip)
        return decode_trace(state, rip, remaining)
    place = known_trace(state, rip)
    if place != 0:
        return place
    place = decode_trace(state, rip, TRACE_LIMIT)
    if place != 0:
        put(64, state + DECODED_NEXT, get(64, state + DECODED_LAST))
        slot = get(64, state + TRACES) + ((rip ^ shift_right(rip, 12)) & (TRACE_SLOTS - 1)) * TRACE_SLOT
        set_field(64, slot, rip ^ get(64, state + GENERATION))
        set_field(64, slot + 8, place)
    return place


# --- the loop ---


def enter(state: int, u: int, remaining: int) -> int:
    """Runs routines from a place until one stops."""
    if THREADED:
        return invoke(state, u, remaining - TRACE_LIMIT)
    put(64, state + REMAINING, remaining)
    while u != 0:
        u = invoke(state, u, get(64, state + REMAINING) - TRACE_LIMIT)
    return 0


def run(state: int, budget: int) -> int:
    """As `execute`; what was decoded is kept for the next run, and what the last one kept is used if it still holds."""
    confirm_decoded(state)
    remaining = execute(state, budget)
    keep_decoded(state)
    return remaining


def execute(state: int, budget: int) -> int:
    """Executes at most `budget` instructions; returns how many were left. REASON says why it ended."""
    put(64, state + REMAINING, budget)
    set_status_flags(state, get(64, state + RFLAGS))
    lay_aside_resume_flag(state)
    put(64, state + REASON, 0)
    while get(64, state + REASON) == 0:
        remaining = get(64, state + REMAINING)
        if remaining == 0:
            put(64, state + REASON, BUDGET)
        else:
            u = find_trace(state, remaining)
            if u != 0:
                enter(state, u, remaining)
                after_stop(state)
            while get(64, state + REASON) == CODE_WRITE or get(64, state + REASON) == FLAG_WRITE:
                run_alone(state)
    remaining = get(64, state + REMAINING)
    resume = get(64, state + RESUME_FLAG) if remaining == get(64, state + RESUME_AT) else 0
    put(64, state + RFLAGS, rflags(state) | resume)
    return remaining


def lay_aside_resume_flag(state: int) -> int:
    """Clears RF, as any instruction does that completes, unless it repeats itself; what it was counts if none does.

    RF means nothing else here: there are no breakpoints.
    """
    flags = get(64, state + RFLAGS)
    put(64, state + RESUME_FLAG, flags & RF)
    put(64, state + RESUME_AT, get(64, state + REMAINING))
    put(64, state + RFLAGS, flags & ~RF)
    return 0


def after_stop(state: int) -> int:
    """Sets RIP, and links a branch that was taken."""
    if get(64, state + STOP) == STOPPED_TAKEN:
        set_rip(state)
        if get(64, state + REMAINING) >= TRACE_LIMIT:
            link_branch(state, get(64, state + PLACE))
    elif get(64, state + STOP) == STOPPED_REFUSED:
        set_rip(state)
    return 0


def set_rip(state: int) -> int:
    """Sets RIP to where the routines stopped."""
    u = get(64, state + PLACE)
    why = get(64, state + STOP)
    if why == STOPPED_TAKEN:
        put(64, state + RIP, field(64, u + IMMEDIATE))
    elif why == STOPPED_REFUSED:
        put(64, state + RIP, field(64, u + ADDRESS))
    return 0


def link_branch(state: int, u: int) -> int:
    """Notes in a branch where the decoded instructions at its target are."""
    generation = get(64, state + GENERATION)
    place = find_trace(state, TRACE_LIMIT)
    if place != 0 and generation == get(64, state + GENERATION):
        set_field(64, u + LINK, place)
    return 0


def run_alone(state: int) -> int:
    """Runs one instruction that sets accessed or dirty flags, or writes to a page with decoded instructions.

    If it is refused after all, such as for its second operand, flags that it has set are cleared again. If it wrote
    code, all is decoded anew: one that repeats itself may have written another in its own place.
    """
    before = get(64, state + REMAINING)
    writes_code = bit(get(64, state + REASON) == CODE_WRITE)
    put(64, state + REASON, 0)
    put(64, state + ALONE, 1)
    put(64, state + CODE_WRITES, writes_code)
    uses = get(64, state + USES)
    left = 1
    u = decode_trace(state, get(64, state + RIP), 1)
    if u != 0:
        enter(state, u, 1)
        set_rip(state)
        left = get(64, state + REMAINING)
        put(64, state + REMAINING, before - 1 + left)
    if left == 0:
        lay_aside_resume_flag(state)
    elif get(64, state + USES) != uses:
        unmark_used(state, uses)
        forget_translations(state)
    put(64, state + ALONE, 0)
    put(64, state + CODE_WRITES, 0)
    if writes_code != 0:
        forget_decoded(state)
    return 0
