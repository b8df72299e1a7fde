"""Each handler returns, and nothing of another guest has changed but by the VMM's steps.

The steps keep the invariant (`isolation.…`), and alone write the state that it is about. Here they may do anything to
what they write, if they are asked for something of the current guest's (`requests.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import z3

from checks.emulation.machine import Machine, written_by
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import equal, fresh
from checks.theorem import Counterexample, Goal
from checks.totality.exits import Exiting
from checks.totality.havoc import Havoc, any_state
from checks.totality.open_run import KIND, OpenRun
from checks.totality.requests import (
    CURRENT,
    LIVES,
    NAMES_PAGE,
    NO_PAGE,
    OPERATES,
    OTHER_DEVICE,
    OTHER_GUEST,
    Requests,
)
from checks.walk import nodes, reachable_functions
from grammar import ir

SWITCH = "vmptrld"
"""The output that makes another VMCS the current one."""

RETURNS, IS_NOT_SWITCHED = "returns", "is not switched"
ENDS_NO_OTHER, USES_NO_OTHER, NAMES_PAGES = (
    "ends no other",
    "uses no other's device",
    "names pages that exist",
)
"""Claims about a handler; the others are the names of state."""

ASKED = {ENDS_NO_OTHER: OTHER_GUEST, USES_NO_OTHER: OTHER_DEVICE, NAMES_PAGES: NO_PAGE}
"""Claims about what is asked for, and the kinds of exit where they do not hold."""


def life(program: ir.Program, part: str) -> int:
    """The value of state that says whether guests are alive, by its name."""
    type_ = program.state[LIVES].type
    assert isinstance(type_, ir.Enum)
    return dict(type_.members)[part]


def handler_goal(exiting: Exiting, handler: ir.Handler, name: str, terms: Terms) -> Goal:
    """The handler returns, for the same guest, and other guests have what they had."""
    program, aborts = exiting.program, exiting.aborts
    requests = Requests(Havoc(program, terms, aborts))
    written = written_by(program, [step.body for step in program.steps.values()])
    kept = frozenset({CURRENT, LIVES, *_per_guest(program, written)})
    machine = Machine(program, terms, overrides=dict.fromkeys(_open(program, kept, aborts), requests.call))
    start = any_state(program, terms, exiting.built)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    function = program.functions[f"handle_{handler.name}"]
    machine.call(function, (), cursor, exits)
    claims = {
        **_claims(program, terms, handler, exits),
        **dict(kept_by_others(program, machine, start, cursor.state, written)),
    }
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, (), start, requests.havoc, exits, (machine,))
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        tuple(terms.truth(one) for one in requests.assumed),
        witnesses=run.witnesses(),
        minimise=partial(_minimise, run, machine),
        explain=partial(_explain, run, handler, name, claims),
    )


def _claims(
    program: ir.Program, terms: Terms, handler: ir.Handler, exits: Iterable[Exit]
) -> dict[str, Truth]:
    """What is claimed of how the handler ends."""

    def never(left: Iterable[Exit]) -> Truth:
        return terms.negation(terms.disjunction(e.condition for e in left))

    return {
        RETURNS: never(e for e in exits if e.kind not in (RETURN, *ASKED.values())),
        **{claim: never(e for e in exits if e.kind == kind) for claim, kind in ASKED.items()},
        IS_NOT_SWITCHED: SWITCH not in _outputs(program, handler),
    }


def _open(program: ir.Program, kept: frozenset[str], aborts: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The functions that handlers call and that are left open: the steps, what is asked for in a guest's name, and what
    writes something, but not what is claimed, and does not lead there.
    """
    asked = OPERATES | NAMES_PAGE
    handlers = [program.functions[f"handle_{name}"].body for name in program.handlers]
    reached = reachable_functions(program, handlers, frozenset(program.steps))
    written = [(f, written_by(program, [f.body])) for f in reached if not aborts[f.name]]
    harmless = {
        f.source
        for f, names in written
        if names
        and kept.isdisjoint(names)
        and asked.isdisjoint(one.source for one in reachable_functions(program, [f.body]))
    }
    return frozenset(program.steps) | harmless | asked


def _outputs(program: ir.Program, handler: ir.Handler) -> frozenset[str]:
    """What the handler may do to the outside world, in what it calls too."""
    bodies = [handler.body, *(f.body for f in reachable_functions(program, [handler.body]))]
    return frozenset(n.name for body in bodies for n in nodes(body) if isinstance(n, ir.Output))


def _per_guest(program: ir.Program, written: frozenset[str]) -> dict[str, int]:
    """What the VMM keeps for each guest otherwise than by steps, and which index is the guest."""
    of_guests = program.state[CURRENT].type
    types = {
        v.name: [index.type for index in v.indices] for v in program.state.values() if v.name not in written
    }
    return {name: found.index(of_guests) for name, found in types.items() if of_guests in found}


def kept_by_others(
    program: ir.Program, machine: Machine, before: State, after: State, written: frozenset[str]
) -> Iterator[tuple[str, Truth]]:
    """The current guest is the same, and what others have is unchanged, by name; `written` is left out."""
    terms, vm = machine.terms, program.state[CURRENT].type
    machine.touched.names.add(CURRENT)
    yield CURRENT, equal(terms, after.get(CURRENT), before.get(CURRENT), vm)
    for name, place in _per_guest(program, written).items():
        variable = program.state[name]
        point = tuple(fresh(terms, f"{name}.{n}", i.type) for n, i in enumerate(variable.indices))
        machine.touched.element(name, point)
        is_own = equal(terms, point[place], before.get(CURRENT), vm)
        old, new = (state.elements(name).read(point) for state in (before, after))
        yield name, terms.disjunction((is_own, equal(terms, new, old, variable.type)))


def _minimise(run: OpenRun, machine: Machine) -> Sequence[z3.ExprRef]:
    """That another guest's VMCS becomes the current one, if the handler can do that, and then all that was used."""
    switches = (machine.terms.negation(taken) for taken, name, _ in machine.outputs if name == SWITCH)
    return [*(one for one in switches if isinstance(one, z3.ExprRef)), *run.minimise()]


def _explain(
    run: OpenRun, handler: ir.Handler, name: str, claims: dict[str, Truth], model: z3.ModelRef
) -> Counterexample:
    summary = f"the handler {handler.name} does not concern the current guest alone, or does not return"
    return run.broken(KIND, name, claims, summary, handler.span, model)
