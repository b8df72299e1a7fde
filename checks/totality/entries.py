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

import z3

from checks.host_state.promises import CURRENT, THIS_CPU
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exit, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, choose, equal
from checks.theorem import Counterexample, Goal, Witness
from checks.totality.exits import Exiting
from checks.totality.handlers import LIVES
from checks.totality.havoc import any_state
from checks.trap.concrete import Concrete
from grammar import ir

ENTERING = ("resume",)
"""The functions that lead to VM entry."""
ENTRY, NEXT, RUNNING, YIELDS, LIVE = "vm_entry", "next_guest", "RUNNING", "IS_YIELDING", "LIVE"
TIMER, VMM = "VMX_PREEMPTION_TIMER_VALUE", 0
"""The names of the specification that these goals are made with: see `spec/vmm/schedule.isa`."""


def entry_goal(exiting: Exiting, function: ir.Function, name: str, terms: Terms) -> Goal:
    """The guest that is entered is the right one, and the current one."""
    program = exiting.program
    machine = Evaluator(program, terms, overrides={ENTRY: _enter})
    start = any_state(program, terms, exiting.built)
    exits: Exits = []
    machine.call(function, (), Cursor(start.copy(), {}), exits)
    end = machine.merge_returns([one for one in exits if one.kind == ENTRY], Cursor(start, {}))
    claims = dict(_claims(program, terms, start, end))
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        witnesses=(Witness("enters", terms.truth(end.condition)),),
        explain=partial(_broken, claims, function),
    )


def _enter(
    _e: Evaluator, _f: ir.Function, _arguments: tuple[Value, ...], cursor: Cursor, exits: Exits
) -> None:
    """The run ends."""
    cursor.leave(ENTRY, None, None, exits)


def _claims(program: ir.Program, terms: Terms, start: State, end: Exit) -> Iterator[tuple[str, Truth]]:
    kind = program.state[CURRENT].type
    guest, turn = end.state.get(CURRENT), _turn(program, terms, start)
    running, before = (state.elements(RUNNING).read((THIS_CPU,)) for state in (end.state, start))
    entered = {
        "is the guest whose VMCS is current": equal(terms, running, guest, kind),
        "is alive": _lives(program, terms, end.state, guest),
        "is the guest whose turn it is": equal(terms, guest, turn, kind),
        "yields no more": terms.negation(cast(Truth, end.state.get(YIELDS))),
        "has time": terms.negation(equal(terms, end.state.get(TIMER), 0, program.state[TIMER].type)),
    }
    for name, holds in entered.items():
        yield f"who is entered {name}", terms.implies(end.condition, holds)
    can_enter = (equal(terms, before, VMM, kind), terms.negation(equal(terms, turn, VMM, kind)))
    yield "a guest is entered", terms.implies(terms.conjunction(can_enter), end.condition)


def _turn(program: ir.Program, terms: Terms, start: State) -> Value:
    """The current guest or, if it yields or is gone, the next one."""
    current = start.get(CURRENT)
    following = Evaluator(program, terms).call(program.functions[NEXT], (), Cursor(start.copy(), {}), [])
    is_gone = terms.negation(_lives(program, terms, start, current))
    leaves = terms.disjunction((cast(Truth, start.get(YIELDS)), is_gone))
    return choose(terms, leaves, cast(Value, following), current, program.state[CURRENT].type)


def _lives(program: ir.Program, terms: Terms, state: State, guest: Value) -> Truth:
    type_ = program.state[LIVES].type
    assert isinstance(type_, ir.Enum)
    return equal(terms, state.elements(LIVES).read((guest,)), dict(type_.members)[LIVE], type_)


def _broken(claims: dict[str, Truth], function: ir.Function, model: z3.ModelRef) -> Counterexample:
    concrete = Concrete(model)
    rows = tuple((name,) for name, holds in claims.items() if not concrete.holds(holds))
    return Counterexample("the wrong guest is entered", ("broken",), rows, function.span)
