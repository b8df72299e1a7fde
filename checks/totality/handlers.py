"""Each handler returns, and nothing of another guest has changed but by the VMM's steps.

The steps keep the invariant (`isolation.…`), and alone write the state that it is about. Here they may do anything to
what they write, with one promise: those that begin or end a guest are asked for the current one only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import z3

from checks.emulation.machine import Machine, written_by
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, equal, fresh
from checks.theorem import Counterexample, Goal
from checks.totality.exits import Exiting
from checks.totality.havoc import Havoc, any_state
from checks.totality.open_run import KIND, OpenRun
from checks.walk import nodes, reachable_functions
from grammar import ir

CURRENT = "CURRENT_VM"
LIVES = "VM_STATE"
SWITCH = "vmptrld"
"""The current guest, whether guests are alive, and the output that makes another VMCS the current one."""

RETURNS, ENDS_NO_OTHER, IS_NOT_SWITCHED = "returns", "ends no other", "is not switched"
"""Claims about a handler; the others are the names of state."""

OTHER_GUEST = "other guest"
"""The kind of exit from a run that ends because a step would begin or end another guest."""


@dataclass(slots=True)
class Steps:
    """The VMM's steps, left open: `written` is what they write."""

    havoc: Havoc
    written: frozenset[str]

    def call(
        self,
        evaluator: Evaluator,
        function: ir.Function,
        arguments: tuple[Value, ...],
        cursor: Cursor,
        exits: Exits,
    ) -> Value | None:
        """What a step may do."""
        call = self.havoc.begin(function.name, cursor)
        if ends_guests(self.havoc.program, function):
            for parameter, argument in zip(function.parameters, arguments, strict=True):
                if parameter.name == "vm":
                    is_own = equal(evaluator.terms, argument, cursor.state.get(CURRENT), parameter.type)
                    evaluator.abort(OTHER_GUEST, evaluator.terms.negation(is_own), 0, cursor, exits)
        return self.havoc.go_on(call, evaluator, function, cursor, exits)


def ends_guests(program: ir.Program, function: ir.Function) -> bool:
    """Whether a step begins or ends the guest that its parameter `vm` names."""
    return LIVES in written_by(program, [function.body])


def life(program: ir.Program, part: str) -> int:
    """The value of state that says whether guests are alive, by its name."""
    type_ = program.state[LIVES].type
    assert isinstance(type_, ir.Enum)
    return dict(type_.members)[part]


def handler_goal(exiting: Exiting, handler: ir.Handler, name: str, terms: Terms) -> Goal:
    """The handler returns, for the same guest, and other guests have what they had."""
    program, aborts = exiting.program, exiting.aborts
    steps = Steps(
        Havoc(program, terms, aborts), written_by(program, [s.body for s in program.steps.values()])
    )
    kept = frozenset({CURRENT, LIVES, *_per_guest(program, steps.written)})
    machine = Machine(program, terms, overrides=dict.fromkeys(_open(program, kept, aborts), steps.call))
    start = any_state(program, terms, exiting.built)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    function = program.functions[f"handle_{handler.name}"]
    machine.call(function, (), cursor, exits)
    claims = {
        **_claims(program, terms, handler, exits),
        **dict(kept_by_others(program, machine, start, cursor.state, steps.written)),
    }
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, (), start, steps.havoc, exits, (machine,))
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
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
        RETURNS: never(e for e in exits if e.kind not in (RETURN, OTHER_GUEST)),
        ENDS_NO_OTHER: never(e for e in exits if e.kind == OTHER_GUEST),
        IS_NOT_SWITCHED: SWITCH not in _outputs(program, handler),
    }


def _open(program: ir.Program, kept: frozenset[str], aborts: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The functions that handlers call and that are left open: the steps, and what does not write what is claimed."""
    handlers = [program.functions[f"handle_{name}"].body for name in program.handlers]
    reached = reachable_functions(program, handlers, frozenset(program.steps))
    harmless = {
        f.source for f in reached if not aborts[f.name] and kept.isdisjoint(written_by(program, [f.body]))
    }
    return frozenset(program.steps) | harmless


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
