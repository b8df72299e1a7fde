"""Where each register of a guest is while it does not run, and that it finds there what was its own.

For each register, at an arbitrary index:

- `host_state.registers.<REGISTER>.class`: it is in exactly one class. VM entry loads it from the VMCS; or the VMM loads
  it as it switches guests; or it is shared, the same for all, by declaration (the VMM owns it, and the view reads it);
  or the guest does not have it: what the VMM owns, no instruction reads or changes without an exit (`trap.….C`, `.I`).
- `host_state.registers.<REGISTER>.entry`: two states that agree on the guest's own VMCS and on what the VMM keeps for
  it, and on nothing else but what is shared, look the same to the guest once it is switched to and entered.
- `host_state.registers.<REGISTER>.start`: two states that agree on nothing but what is shared look the same to a new
  guest once it is made ready and entered.
- `host_state.registers.<REGISTER>.return`: a guest that exits, while another runs and does anything to the registers,
  and that is entered again, sees in its own registers what it left there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import z3

from checks.case import Case
from checks.host_state.built import Built
from checks.host_state.explain import KIND
from checks.host_state.promises import CURRENT, LOAD, mode_of
from checks.host_state.twice import SWITCH, VM, Twice, is_shared, point_of
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.state import Elements, Initial, State, Updated, same_point
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point
from checks.theorem import Counterexample, Goal, Group
from checks.totality.havoc import any_state
from checks.totality.open_run import start_items
from checks.trap.concrete import Concrete, item
from grammar import ir

GROUP, BEGINNING = "host_state.registers", "host_state.beginning"
"""The groups: that about new guests alone is about what makes them."""
START = "start"
NOT_OWN = ir.Literal(ir.BOOL, 0)
"""The owner of what is the VMM's whatever the controls."""

OTHER = 2
"""A guest that is not the one which runs, which has number 1."""


def register_ids(program: ir.Program) -> Mapping[str, tuple[str, ...]]:
    """The ids of all goals, by group: every register that the specification declares has a class."""
    if SWITCH not in program.functions:
        return {}
    pairs = [(v.name, kind) for v in program.state_in("register") for kind in _kinds(v)]
    return {
        group: tuple(
            f"{GROUP}.{name}.{kind}" for name, kind in pairs if (kind == START) == (group == BEGINNING)
        )
        for group in (GROUP, BEGINNING)
    }


def _kinds(variable: ir.StateVariable) -> Iterator[str]:
    yield "class"
    if variable.view is not None:
        yield "entry"
        yield START
    if variable.owner != NOT_OWN:
        yield "return"


def register_group(
    program: ir.Program, group: str, context: z3.Context, built: Built, ids: frozenset[str] | None
) -> Group:
    """The goals of one of the groups: those of `ids`, or all."""
    terms = Terms(context)
    makers: dict[str, Callable[[], _Maker]] = {
        "class": lambda: _Classes.of(program, terms, built),
        "entry": lambda: Twice.entered(program, terms, built),
        START: lambda: Twice.begun(program, terms, built),
        "return": lambda: Twice.returned(program, terms, built),
    }
    goals: list[Goal] = []
    for kind, make in makers.items():
        names = {f"{GROUP}.{v.name}.{kind}": v for v in program.state_in("register") if kind in _kinds(v)}
        own = register_ids(program)[group]
        wanted = {name: v for name, v in names.items() if name in own and (ids is None or name in ids)}
        if wanted:
            maker = make()
            goals += [maker.goal(name, variable) for name, variable in wanted.items()]
    return Group(group, context, tuple(goals))


class _Maker(Protocol):
    """Makes the goals of one kind."""

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """The goal about a register."""
        ...


@dataclass(frozen=True, slots=True)
class _Classes:
    """What VM entry and what the switch to another guest write, and a state in which the guest runs."""

    program: ir.Program
    terms: Terms
    start: State
    loaded: State
    switched: State
    evaluator: Evaluator

    @classmethod
    def of(cls, program: ir.Program, terms: Terms, built: Built) -> _Classes:
        start = any_state(program, terms, built)
        start.set(mode_of(program), value=True)
        start.set(CURRENT, 1)
        evaluator = Evaluator(program, terms)

        def after(function: str, *arguments: int) -> State:
            cursor = Cursor(start.copy(), {})
            evaluator.call(program.functions[function], arguments, cursor, [])
            return cursor.state

        return cls(program, terms, start, after(LOAD), after(SWITCH, OTHER), evaluator)

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """Exactly one class: none twice, and one if the guest owns it."""
        terms, point = self.terms, point_of(self.terms, variable)
        bindings = {i.name: p for i, p in zip(variable.indices, point, strict=True)}
        owner = cast(Truth, self.evaluator.pure(variable.owner, self.start, **bindings))
        classes = {
            "VM entry loads it": self._writes(self.loaded, variable, point),
            "the VMM switches it": self._writes(self.switched, variable, point),
            "it is shared": is_shared(self.program, variable),
        }
        loaded, switched, shared = classes.values()
        claim = (
            terms.negation(terms.conjunction((loaded, switched))),
            terms.implies(shared, terms.negation(terms.disjunction((loaded, switched)))),
            terms.implies(owner, terms.disjunction((loaded, switched))),
        )
        explain = partial(self._explain, name, variable, point, classes)
        return Goal(name, terms.truth(terms.conjunction(claim)), explain=explain)

    def _writes(self, state: State, variable: ir.StateVariable, point: Point) -> Truth:
        if not variable.indices:
            return state.get(variable.name) is not self.start.get(variable.name)
        types = tuple(i.type for i in variable.indices)
        places = _places(state.elements(variable.name))
        return self.terms.disjunction(same_point(self.terms, point, place, types) for place in places)

    def _explain(
        self,
        goal: str,
        variable: ir.StateVariable,
        point: Point,
        classes: dict[str, Truth],
        model: z3.ModelRef,
    ) -> Counterexample:
        concrete = Concrete(model)
        name = item(variable.name, concrete.point(point))
        found = [text for text, holds in classes.items() if concrete.holds(holds)]
        wrong = (
            " and ".join(found)
            if found
            else "a guest owns it, but VM entry does not load it and the VMM does not switch it"
        )
        rows = tuple((text, "yes" if text in found else "no") for text in classes)
        summary = f"{name} is not in exactly one class: {wrong}"
        start = {CURRENT: 1} | dict(start_items(concrete, self.start, [self.evaluator]))
        case = Case(
            kind=KIND, id=goal, code=b"", instruction=name, state=start, expected={VM: OTHER}, text=summary
        )
        return Counterexample(summary, ("class", name), rows, variable.span, case.document())


def _places(elements: Elements) -> Iterator[Point]:
    """The points that were written."""
    while isinstance(elements, Updated):
        yield elements.point
        elements = elements.old
    assert isinstance(elements, Initial), "a write under a condition"
