"""Whom the VMM enters when it goes back to a guest: the one whose turn it is, with that guest's own VMCS.

From any state, where `resume` gets as far as VM entry: the guest that the processor now belongs to is the current one,
whose VMCS the entry uses; it is alive; it is the guest from before or, if that one yields or is gone, the next one that
is alive; it has time to run; and nobody yields any more. If there is such a guest and the processor is free, `resume`
gets that far. What VM entry does is the subject of `host_state`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

from checks.host_state.promises import CURRENT, THIS_CPU
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, choose, equal
from checks.theorem import Goal, Witness
from checks.totality.exits import Exiting
from checks.totality.handlers import life
from checks.totality.havoc import Havoc, any_state
from checks.totality.open_run import KIND, OpenRun, end_in_words
from checks.totality.requests import LIVES
from grammar import ir

ENTERING = ("resume",)
"""The functions that lead to VM entry."""
ENTRY, NEXT, RUNNING, YIELDS, LIVE = "vm_entry", "next_guest", "RUNNING", "IS_YIELDING", "LIVE"
TIMER, VMM = "VMX_PREEMPTION_TIMER_VALUE", 0
"""The names of the specification that these goals are made with: see `spec/vmm/schedule.isa`."""

IS_CURRENT = "who is entered is the guest whose VMCS is current"
IS_ALIVE = "who is entered is alive"
HAS_ITS_TURN = "who is entered is the guest whose turn it is"
YIELDS_NO_MORE = "who is entered yields no more"
HAS_TIME = "who is entered has time"
IS_ENTERED = "a guest is entered"
CLAIMS = frozenset({IS_CURRENT, IS_ALIVE, HAS_ITS_TURN, YIELDS_NO_MORE, HAS_TIME, IS_ENTERED})
"""The claims."""


def entry_goal(exiting: Exiting, function: ir.Function, name: str, terms: Terms) -> Goal:
    """The guest that is entered is the right one, and the current one."""
    program = exiting.program
    havoc = Havoc(program, terms, exiting.aborts)
    machine = Evaluator(program, terms, overrides={ENTRY: havoc.end})
    start = any_state(program, terms, exiting.built)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    machine.call(function, (), cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    end = machine.merge_returns([one for one in exits if one.kind == ENTRY], Cursor(start, {}))
    claims = dict(_claims(machine, start, end))
    run = OpenRun(function, (), start, havoc, exits, (machine,))
    summary = "the wrong guest is entered"
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        witnesses=(Witness(end_in_words(ENTRY), terms.truth(end.condition)),),
        minimise=run.minimise,
        explain=partial(run.broken, KIND, name, claims, summary, function.span),
    )


def _claims(machine: Evaluator, start: State, end: Exit) -> Iterator[tuple[str, Truth]]:
    program, terms = machine.program, machine.terms
    kind = program.state[CURRENT].type
    guest, turn = end.state.get(CURRENT), _turn(machine, start)
    machine.touched.element(RUNNING, (THIS_CPU,))
    running, before = (state.elements(RUNNING).read((THIS_CPU,)) for state in (end.state, start))
    entered = {
        IS_CURRENT: equal(terms, running, guest, kind),
        IS_ALIVE: _lives(machine, end.state, guest),
        HAS_ITS_TURN: equal(terms, guest, turn, kind),
        YIELDS_NO_MORE: terms.negation(cast(Truth, end.state.get(YIELDS))),
        HAS_TIME: terms.negation(equal(terms, end.state.get(TIMER), 0, program.state[TIMER].type)),
    }
    for name, holds in entered.items():
        yield name, terms.implies(end.condition, holds)
    can_enter = (equal(terms, before, VMM, kind), terms.negation(equal(terms, turn, VMM, kind)))
    yield IS_ENTERED, terms.implies(terms.conjunction(can_enter), end.condition)


def _turn(machine: Evaluator, start: State) -> Value:
    """The current guest or, if it yields or is gone, the next one."""
    terms, current = machine.terms, start.get(CURRENT)
    machine.touched.names.update((CURRENT, YIELDS))
    following = machine.call(machine.program.functions[NEXT], (), Cursor(start.copy(), {}), [])
    is_gone = terms.negation(_lives(machine, start, current))
    leaves = terms.disjunction((cast(Truth, start.get(YIELDS)), is_gone))
    return choose(terms, leaves, cast(Value, following), current, machine.program.state[CURRENT].type)


def _lives(machine: Evaluator, state: State, guest: Value) -> Truth:
    machine.touched.element(LIVES, (guest,))
    type_, found = machine.program.state[LIVES].type, state.elements(LIVES).read((guest,))
    return equal(machine.terms, found, life(machine.program, LIVE), type_)
