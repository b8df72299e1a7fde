"""What a guest notices of an interrupt from outside that arrives while it runs: nothing.

From any state in which a guest runs, the interrupt exits, for a reason that has a handler, or waits; it is not
delivered to the guest, and the guest's state is what it was. What the handler does is the subject of
`totality.handlers`, that the guest goes on as it was that of `host_state.registers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import cast

from checks.emulation.machine import Machine, is_handled
from checks.host_state.promises import mode_of
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Record, equal, fresh
from checks.theorem import Goal
from checks.totality.exits import IS_HANDLED, Exiting
from checks.totality.havoc import CALLS, Havoc, any_state
from checks.totality.open_run import KIND, OpenRun
from checks.trap.contract import VM_EXIT
from grammar import ir

DELIVER = "deliver_exception"
"""The function that delivers an event to whom it arrives at."""

IS_NOT_DELIVERED, IS_NOT_NOTICED = "is not delivered", "is not noticed"
"""Claims besides that an exit has a handler."""


def arrival_goal(exiting: Exiting, function: ir.Function, name: str, terms: Terms) -> Goal:
    """The interrupt exits or waits, and the guest does not notice."""
    program = exiting.program
    havoc = Havoc(program, terms, exiting.aborts)
    machine = Machine(program, terms, overrides={DELIVER: havoc.end})
    start = any_state(program, terms, exiting.built)
    start.set(mode_of(program), value=True)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    arguments = tuple(fresh(terms, p.name, p.type) for p in function.parameters)
    machine.call(function, arguments, cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    machine.touched.names.add(mode_of(program))
    run = OpenRun(function, arguments, start, havoc, exits, (machine,))
    claims = dict(_claims(program, terms, start, exits))
    summary = f"a guest notices what arrives: {function.name}"
    explain = partial(run.broken, KIND, name, claims, summary, function.span)
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        witnesses=run.witnesses(),
        minimise=run.minimise,
        explain=explain,
    )


def _claims(
    program: ir.Program, terms: Terms, start: State, exits: Iterable[Exit]
) -> Iterator[tuple[str, Truth]]:
    handled, undelivered, unnoticed = list[Truth](), list[Truth](), list[Truth]()
    for one in exits:
        if one.kind == DELIVER:
            undelivered.append(terms.negation(one.condition))
            continue
        if one.kind == VM_EXIT:
            handled.append(terms.implies(one.condition, is_handled(program, terms, cast(Record, one.value))))
        unnoticed.append(terms.implies(one.condition, _is_unchanged(program, terms, start, one.state)))
    yield IS_HANDLED, terms.conjunction(handled)
    yield IS_NOT_DELIVERED, terms.conjunction(undelivered)
    yield IS_NOT_NOTICED, terms.conjunction(unnoticed)


def _is_unchanged(program: ir.Program, terms: Terms, start: State, end: State) -> Truth:
    """Nothing is written but, perhaps, what was there."""
    written = end.changed.keys() - start.changed.keys() - {CALLS}
    variables = [program.state[name] for name in written | start.changed.keys()]
    return terms.conjunction(
        equal(terms, end.get(v.name), start.get(v.name), v.type) for v in variables if not v.indices
    )
