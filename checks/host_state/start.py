"""`host_state.start_vm.<promise>`: what `start_vm` builds passes each rule of VM entry, and keeps each policy."""

from __future__ import annotations

from collections.abc import Iterator

import z3

from checks.host_state.built import BOOT, START, Started, started
from checks.host_state.explain import Change, Kept
from checks.host_state.promises import Promises, promises
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth
from checks.theorem import Group
from grammar import ir

GROUP = f"host_state.{START}"
ASKED = "can_start"
"""The function of the specification that says what `start_vm` asks of its arguments."""


def start_ids(program: ir.Program) -> tuple[str, ...]:
    """The ids of the goals; none for a program without a VMM."""
    if START not in program.functions or BOOT not in program.functions:
        return ()
    return tuple(f"{GROUP}.{one.name}" for one in promises(program))


def start_group(program: ir.Program, context: z3.Context) -> Group:
    """The goals: each promise about the guest that was made, while it waits for its first entry."""
    guest = started(program, context)
    asker = Promises(program, guest.terms)
    change = Change(
        "start_vm", guest.before, guest.state, True, guest.calls, (guest.evaluator, asker.evaluator)
    )
    holding = asker.of_waiting(guest.state)
    goals = (
        Kept(f"{GROUP}.{one.name}", change, one, None, holding[one.name]).goal(guest.terms)
        for one in asker.every
    )
    return Group(GROUP, context, tuple(goals), tuple(guest.terms.truth(a) for a in _asked(program, guest)))


def _asked(program: ir.Program, guest: Started) -> Iterator[Truth]:
    """What the caller of `start_vm` promises."""
    function = program.functions.get(ASKED)
    if function is not None:
        arguments = tuple(guest.arguments[p.name] for p in function.parameters)
        yield guest.evaluator.call(function, arguments, Cursor(guest.state.copy(), {}), [])
