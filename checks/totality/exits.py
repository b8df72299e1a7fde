"""Which VM exits there are besides those that instructions ask for: all have a handler, none is left to `OTHER`.

The theorems are about the functions that the cycle of a guest reaches: whatever exits with a handled reason in what a
function calls, it exits with handled reasons itself. (About instructions the family `emulation` says so.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import z3

from checks.emulation.machine import Machine, is_handled
from checks.emulation.runs import RUN_ONE
from checks.host_state.built import Built
from checks.symbolic.evaluate import Evaluator, Override
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.terms import Terms
from checks.symbolic.values import Record, fresh
from checks.theorem import Counterexample, Goal
from checks.totality.havoc import Havoc, aborts_of, any_state
from checks.totality.open_run import KIND, OpenRun
from checks.trap.concrete import Concrete
from checks.trap.contract import VM_EXIT, contract_functions
from checks.walk import nodes, reachable_functions
from grammar import ir

ARRIVING = ("external_interrupt", "non_maskable_interrupt")
"""What happens as an interrupt arrives: see `spec/cpu/interrupts.isa`."""

IS_HANDLED = "every exit has a handler"
"""The claim."""


class Exiting:
    """What the goals about a program need: `functions` are those to prove something about, by name."""

    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.built = Built.of(program)
        self.aborts = aborts_of(program)
        begun = [*contract_functions(program), *_uncalled(program)]
        roots = [f.body for f in (program.functions[RUN_ONE], *begun)]
        reached = [*begun, *reachable_functions(program, roots)]
        self.functions = {f.name: f for f in reached if self._exits(f) and not self._is_leaf(f)}
        self.open_calls = frozenset(f.source for f in self.functions.values())

    def _exits(self, function: ir.Function) -> bool:
        return VM_EXIT in self.aborts[function.name]

    def _is_leaf(self, function: ir.Function) -> bool:
        """The function exits by its own text alone: its callers are proved with it in its place."""
        below = list(nodes(function.body))
        called = (self.program.functions[n.function] for n in below if isinstance(n, ir.Call))
        return not any(isinstance(n, ir.Execute) for n in below) and not any(self._exits(f) for f in called)


def _uncalled(program: ir.Program) -> list[ir.Function]:
    """What happens between instructions and without the specification asking for it: interrupts that arrive."""
    return [program.functions[name] for name in ARRIVING if name in program.functions]


@dataclass(slots=True)
class Cycle(Machine):
    """A machine on which the rules of VM entry may hold or not."""

    _EXPRESSIONS: ClassVar[dict[type, Callable[..., Any]]] = {
        **Machine._EXPRESSIONS,  # noqa: SLF001 - extended here
        ir.Holds: Evaluator._EXPRESSIONS[ir.Holds],  # noqa: SLF001
    }


def exit_goal(exiting: Exiting, function: ir.Function, name: str, terms: Terms) -> Goal:
    """Every exit of the function has a handler of its own."""
    program = exiting.program
    havoc = Havoc(program, terms, exiting.aborts)
    overrides: dict[str, Override] = dict.fromkeys(exiting.open_calls - {function.source}, havoc.call)
    machine = Cycle(program, terms, overrides=overrides, instruction=havoc.instruction)
    start = any_state(program, terms, exiting.built)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    arguments = tuple(fresh(terms, p.name, p.type) for p in function.parameters)
    machine.call(function, arguments, cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, arguments, start, havoc, exits, (machine,))
    passed_on = {id(event) for event in havoc.events}
    own = [e for e in exits if e.kind == VM_EXIT and id(e.value) not in passed_on]
    handled = terms.conjunction(
        terms.implies(e.condition, is_handled(program, terms, cast(Record, e.value))) for e in own
    )
    return Goal(
        name,
        terms.truth(handled),
        tuple(terms.truth(one) for one in havoc.assumed),
        run.witnesses(),
        minimise=run.minimise,
        explain=partial(_explain, run, name, own),
    )


def _explain(run: OpenRun, name: str, exits: list[Exit], model: z3.ModelRef) -> Counterexample:
    """Names the exits that are left to `OTHER`, and where they are."""
    concrete, function = Concrete(model), run.function
    taken = [e for e in exits if concrete.holds(e.condition)]
    rows = []
    for one in taken:
        number = concrete.number(cast(Record, one.value).field("reason"))
        rows.append((_name(run.havoc.program, number), str(one.span or function.span)))
    where = next((e.span for e in taken if e.span is not None), function.span)
    summary = f"{function.name} exits for a reason that has no handler"
    case = run.case(concrete, KIND, name, IS_HANDLED, summary)
    return Counterexample(summary, ("reason", "where"), tuple(rows), where, case)


def _name(program: ir.Program, reason: int) -> str:
    type_ = program.types["ExitReason"]
    names = {value: name for name, value in type_.members} if isinstance(type_, ir.Enum) else {}
    return names.get(reason, str(reason))
