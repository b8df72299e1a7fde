"""Where each register of a guest is while it does not run, and that it finds there what was its own.

For each register, at an arbitrary index:

- `host_state.registers.<REGISTER>.class`: it is in exactly one class. VM entry loads it from the VMCS; or the VMM loads
  it as it switches guests; or it is shared, the same for all, by declaration (the VMM owns it, and the view reads it);
  or the guest does not have it: what the VMM owns, no instruction reads or changes without an exit (`trap.….C`, `.I`).
- `host_state.registers.<REGISTER>.entry`: two states that agree on the guest's own VMCS and on what the VMM keeps for
  it, and on nothing else but what is shared, look the same to the guest once it is switched to and entered.
- `host_state.registers.<REGISTER>.return`: a guest that exits, while another runs and does anything to the registers,
  and that is entered again, sees in its own registers what it left there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from checks.host_state.built import Built, initial_state
from checks.host_state.handlers import LeftGuest
from checks.host_state.promises import CURRENT, LOAD, Promises, mode_of
from checks.host_state.running import RunningGuest
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.state import Elements, Initial, State, Updated, same_point
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, choose, equal, fresh
from checks.theorem import Counterexample, Goal, Group
from checks.totality.havoc import any_state
from checks.trap.concrete import Concrete, item, show_record
from checks.trap.initial import Symbols
from checks.walk import state_read
from grammar import ir

GROUP = "host_state.registers"
SWITCH, RESUMES = "switch_to", "saves_resume_flag"
NOT_OWN = ir.Literal(ir.BOOL, 0)
"""The owner of what is the VMM's whatever the controls."""


def register_ids(program: ir.Program) -> tuple[str, ...]:
    """The ids of all goals: every register that the specification declares has a class."""
    if SWITCH not in program.functions:
        return ()
    return tuple(f"{GROUP}.{v.name}.{kind}" for v in program.state_in("register") for kind in _kinds(v))


def _kinds(variable: ir.StateVariable) -> Iterator[str]:
    yield "class"
    if variable.view is not None:
        yield "entry"
    if variable.owner != NOT_OWN:
        yield "return"


def is_shared(program: ir.Program, variable: ir.StateVariable) -> bool:
    """Whether the VMM owns a register and lets every guest see it: so it is declared."""
    is_seen = variable.view is not None and variable.name in state_read(program, variable.view)
    return variable.owner == NOT_OWN and is_seen


def register_group(
    program: ir.Program, context: z3.Context, built: Built, ids: frozenset[str] | None
) -> Group:
    """The goals: those of `ids`, or all."""
    terms = Terms(context)
    makers: dict[str, Callable[[], _Maker]] = {
        "class": lambda: _Classes.of(program, terms, built),
        "entry": lambda: _Twice.entered(program, terms, built),
        "return": lambda: _Twice.returned(program, terms, built),
    }
    goals: list[Goal] = []
    for kind, make in makers.items():
        names = {f"{GROUP}.{v.name}.{kind}": v for v in program.state_in("register") if kind in _kinds(v)}
        wanted = {name: v for name, v in names.items() if ids is None or name in ids}
        if wanted:
            maker = make()
            goals += [maker.goal(name, variable) for name, variable in wanted.items()]
    return Group(GROUP, context, tuple(goals))


def _point(terms: Terms, variable: ir.StateVariable) -> Point:
    return tuple(fresh(terms, f"{variable.name}.{i.name}", i.type) for i in variable.indices)


class _Maker:
    """Makes the goals of one kind."""

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """The goal about a register."""
        raise NotImplementedError


# --- classes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Classes(_Maker):
    """What VM entry and what the switch to another guest write, and a state in which the guest runs."""

    program: ir.Program
    terms: Terms
    start: State
    loaded: State
    switched: State

    @classmethod
    def of(cls, program: ir.Program, terms: Terms, built: Built) -> _Classes:
        start = any_state(program, terms, built)
        start.set(mode_of(program), value=True)
        start.set(CURRENT, 1)
        after = []
        for function, arguments in ((LOAD, ()), (SWITCH, (2,))):  # any two guests
            cursor = Cursor(start.copy(), {})
            Evaluator(program, terms).call(program.functions[function], arguments, cursor, [])
            after.append(cursor.state)
        return cls(program, terms, start, *after)

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """Exactly one class: none twice, and one if the guest owns it."""
        terms, point = self.terms, _point(self.terms, variable)
        bindings = {i.name: p for i, p in zip(variable.indices, point, strict=True)}
        owner = cast(Truth, Evaluator(self.program, terms).pure(variable.owner, self.start, **bindings))
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
        explain = partial(self._explain, variable, point, classes)
        return Goal(name, terms.truth(terms.conjunction(claim)), explain=explain)

    def _writes(self, state: State, variable: ir.StateVariable, point: Point) -> Truth:
        if not variable.indices:
            return state.get(variable.name) is not self.start.get(variable.name)
        types = tuple(i.type for i in variable.indices)
        places = _places(state.elements(variable.name))
        return self.terms.disjunction(same_point(self.terms, point, place, types) for place in places)

    def _explain(
        self, variable: ir.StateVariable, point: Point, classes: dict[str, Truth], model: z3.ModelRef
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
        return Counterexample(
            f"{name} is not in exactly one class: {wrong}", ("class", name), rows, variable.span
        )


def _places(elements: Elements) -> Iterator[Point]:
    """The points that were written."""
    while isinstance(elements, Updated):
        yield elements.point
        elements = elements.old
    assert isinstance(elements, Initial), "a write under a condition"


# --- what the guest sees, twice -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Twice(_Maker):
    """Two states that are to look the same to the guest, where `assumed` holds; `columns` are what they are."""

    program: ir.Program
    terms: Terms
    states: tuple[State, State]
    assumed: tuple[z3.BoolRef, ...]
    wrong: str
    columns: tuple[str, str]

    @classmethod
    def entered(cls, program: ir.Program, terms: Terms, built: Built) -> _Twice:
        """Two states after a guest has been switched to and entered."""
        guest = fresh(terms, "guest", program.state[CURRENT].type)
        promises, states, assumed = Promises(program, terms), [], list[Truth]()
        for side in ("first", "second"):
            symbols = Symbols(terms)
            state = initial_state(program, terms, symbols, _Own(program, symbols, guest, side))
            for name, value in built.constants.items():
                state.set(name, value)
            assumed.append(
                terms.negation(equal(terms, state.get(CURRENT), guest, program.state[CURRENT].type))
            )
            states.append(promises.entered(_switched(program, terms, state, guest)))
            assumed += _policies(promises, states[-1])
        wrong = "a guest that is entered sees what is not its own"
        return cls(
            program,
            terms,
            (states[0], states[1]),
            _terms(terms, assumed),
            wrong,
            ("entered", "entered otherwise"),
        )

    @classmethod
    def returned(cls, program: ir.Program, terms: Terms, built: Built) -> _Twice:
        """The state before a VM exit, and that in which the guest runs again after another did."""
        guest = RunningGuest.of(program, terms, built)
        guest.state.set("NEXT_RIP", guest.state.get("RIP"))
        left, current = LeftGuest.of(guest), guest.state.get(CURRENT)
        other = fresh(terms, "other", program.state[CURRENT].type)
        away = _switched(program, terms, left.state, other)
        symbols = Symbols(terms)
        for variable in program.state_in("register"):
            unknown = Initial(partial(symbols.value, f"{variable.name}!other", variable))
            away.set(variable.name, unknown if variable.indices else unknown.read(()))
        again = guest.promises.entered(_switched(program, terms, away, current))
        assumed = [
            *guest.holding.values(),
            terms.negation(equal(terms, current, other, program.state[CURRENT].type)),
            terms.negation(guest.promises.ask(RESUMES, guest.state, left.event)),
            *_policies(guest.promises, again),
        ]
        wrong = "a guest that runs again after another sees what it did not leave"
        return cls(
            program,
            terms,
            (guest.state, again),
            _terms(terms, assumed),
            wrong,
            ("before", "when it runs again"),
        )

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """The register looks the same, where the guest owns it or, after an entry, wherever it sees one."""
        terms, point = self.terms, _point(self.terms, variable)
        bindings = {i.name: p for i, p in zip(variable.indices, point, strict=True)}
        evaluator = Evaluator(self.program, terms)
        first, second = (
            evaluator.pure(cast(ir.Expr, variable.view), state, **bindings) for state in self.states
        )
        owner = name.endswith(".entry") or evaluator.pure(variable.owner, self.states[0], **bindings)
        same = terms.implies(cast(Truth, owner), equal(terms, first, second, variable.type))
        explain = partial(self._explain, variable, point, (first, second))
        return Goal(name, terms.truth(same), self.assumed, explain=explain)

    def _explain(
        self, variable: ir.StateVariable, point: Point, seen: tuple[Value, Value], model: z3.ModelRef
    ) -> Counterexample:
        concrete = Concrete(model)
        name = item(variable.name, concrete.point(point))
        row = (name, *(show_record(concrete, one, variable.type) for one in seen))
        return Counterexample(f"{name}: {self.wrong}", ("", *self.columns), (row,), variable.span)


def _switched(program: ir.Program, terms: Terms, state: State, guest: Value) -> State:
    cursor = Cursor(state.copy(), {})
    Evaluator(program, terms).call(program.functions[SWITCH], (guest,), cursor, [])
    return cursor.state


def _policies(promises: Promises, state: State) -> Iterator[Truth]:
    """The policies without parameters, of a guest that runs."""
    names = {one.name for one in promises.every if one.is_policy and not one.predicate.parameters}
    yield from promises.of_running(state, names).values()


def _terms(terms: Terms, assumed: list[Truth]) -> tuple[z3.BoolRef, ...]:
    return tuple(terms.truth(one) for one in assumed if one is not True)


@dataclass(frozen=True, slots=True)
class _Own:
    """Initial values of which the guest's own are the same on both sides: its VMCS, and what is kept for it."""

    program: ir.Program
    symbols: Symbols
    guest: Value
    side: str

    def scalar(self, variable: ir.StateVariable) -> Value:
        """The value of a variable that is not indexed."""
        return self.element(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The value at a point."""
        own = self.symbols.value(variable.name, variable, point)
        if variable.space == "vmcs" or is_shared(self.program, variable):
            return own
        others = self.symbols.value(f"{variable.name}!{self.side}", variable, point)
        vm = self.program.state[CURRENT].type
        of_guest = [p for p, index in zip(point, variable.indices, strict=True) if index.type == vm]
        if variable.space != "state" or len(of_guest) != 1:
            return others
        is_own = equal(self.symbols.terms, of_guest[0], self.guest, vm)
        return choose(self.symbols.terms, is_own, own, others, variable.type)
