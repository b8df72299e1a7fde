"""What a guest sees of a register in two states that are to look the same: after two entries, or before and after one.

See `checks/host_state/registers.py` for the theorems. A case has the start, what the second start has otherwise, and
the guests that are switched to; `checks/host_state/register_replay.py` replays it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from checks.case import Case
from checks.host_state.built import START, Built, initial_state
from checks.host_state.explain import KIND
from checks.host_state.handlers import EXIT_FUNCTION, LeftGuest
from checks.host_state.promises import CURRENT, Promises
from checks.host_state.running import RunningGuest
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.state import Initial, Source, State, value_at
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, choose, equal, fresh, leaves
from checks.theorem import Counterexample, Goal
from checks.totality.open_run import used_items
from checks.trap.concrete import Concrete, item, show_record
from checks.trap.initial import Symbols
from checks.walk import state_read
from grammar import ir

SWITCH, RESUMES = "switch_to", "saves_resume_flag"
VM, AWAY = f"{SWITCH}.vm", "away: "
"""In a case: the guest that is switched to, and what its run leaves in a register."""


def is_shared(program: ir.Program, variable: ir.StateVariable) -> bool:
    """Whether the VMM owns a register and lets every guest see it: so it is declared."""
    is_seen = variable.view is not None and variable.name in state_read(program, variable.view)
    return variable.owner == ir.Literal(ir.BOOL, 0) and is_seen


def point_of(terms: Terms, variable: ir.StateVariable) -> Point:
    """An arbitrary point of a register."""
    return tuple(fresh(terms, f"{variable.name}.{i.name}", i.type) for i in variable.indices)


@dataclass(frozen=True, slots=True)
class Twice:
    """Two states that are to look the same to the guest, where `assumed` holds; `columns` are what they are.

    `starts` are the states in which the calls begin, `given` what a case says besides them, and `used` made the terms.
    """

    program: ir.Program
    states: tuple[State, State]
    assumed: Sequence[Truth]
    wrong: str
    columns: tuple[str, str]
    starts: tuple[State, ...]
    given: dict[str, Value]
    used: tuple[Evaluator, ...]

    @classmethod
    def entered(cls, program: ir.Program, terms: Terms, built: Built) -> Twice:
        """Two states after a guest has been switched to and entered."""
        vm = program.state[CURRENT].type
        guest = fresh(terms, "guest", vm)
        promises, switcher = Promises(program, terms), Evaluator(program, terms)
        switcher.touched.names.add(CURRENT)
        starts, states, assumed = [], [], list[Truth]()
        for side in ("first", "second"):
            symbols = Symbols(terms)
            state = initial_state(program, terms, symbols, _Own(program, symbols, guest, side))
            for name, value in built.constants.items():
                state.set(name, value)
            starts.append(state.copy())
            assumed.append(terms.negation(equal(terms, state.get(CURRENT), guest, vm)))
            states.append(promises.entered(_switched(switcher, state, guest)))
            assumed += _policies(promises, states[-1])
        return cls(
            program,
            (states[0], states[1]),
            assumed,
            "a guest that is entered sees what is not its own",
            ("entered", "entered otherwise"),
            tuple(starts),
            {VM: guest},
            (switcher, promises.evaluator),
        )

    @classmethod
    def begun(cls, program: ir.Program, terms: Terms, _built: Built) -> Twice:
        """Two states after a new guest, of whose VMCS all is zero, has been made ready and entered."""
        function = program.functions[START]
        given = tuple(fresh(terms, f"{START}.{p.name}", p.type) for p in function.parameters)
        promises, starter = Promises(program, terms), Evaluator(program, terms)
        starts, states, assumed = [], [], list[Truth]()
        for side in ("first", "second"):
            symbols = Symbols(terms)
            starts.append(initial_state(program, terms, symbols, _New(program, symbols, side)))
            cursor = Cursor(starts[-1].copy(), {})
            starter.call(function, given, cursor, [])
            states.append(promises.entered(cursor.state))
            assumed += _policies(promises, states[-1])
        return cls(
            program,
            (states[0], states[1]),
            assumed,
            "a new guest sees what was there before it",
            ("begun", "begun otherwise"),
            tuple(starts),
            {f"{START}.{p.name}": value for p, value in zip(function.parameters, given, strict=True)},
            (starter, promises.evaluator),
        )

    @classmethod
    def returned(cls, program: ir.Program, terms: Terms, built: Built) -> Twice:
        """The state before a VM exit, and that in which the guest runs again after another did."""
        vm, guest = program.state[CURRENT].type, RunningGuest.of(program, terms, built)
        guest.state.set("NEXT_RIP", guest.state.get("RIP"))  # it is between two instructions
        guest.state.set("SINGLE_STEP", value=False)
        left, current, other = LeftGuest.of(guest), guest.state.get(CURRENT), fresh(terms, "other", vm)
        switcher = Evaluator(program, terms)
        away, symbols = _switched(switcher, left.state, other), Symbols(terms)
        for variable in program.state_in("register"):
            unknown = Initial(partial(symbols.value, f"{variable.name}!other", variable))
            away.set(variable.name, unknown if variable.indices else unknown.read(()))
        again = guest.promises.entered(_switched(switcher, away, current))
        assumed = [
            *guest.holding.values(),
            terms.negation(equal(terms, current, other, vm)),
            terms.negation(guest.promises.ask(RESUMES, guest.state, left.event)),
            *_policies(guest.promises, again),
        ]
        parameter = program.functions[EXIT_FUNCTION].parameters[0]
        event = leaves(left.event, parameter.type, f"{EXIT_FUNCTION}.{parameter.name}")
        return cls(
            program,
            (guest.state, again),
            assumed,
            "a guest that runs again after another sees what it did not leave",
            ("before", "when it runs again"),
            (guest.state, away),
            {VM: other, **{name: value for name, value, _ in event}},
            (switcher, guest.promises.evaluator, left.used),
        )

    def goal(self, name: str, variable: ir.StateVariable) -> Goal:
        """The register looks the same, where the guest owns it or, in two runs, wherever it sees one."""
        terms = self.states[0].surroundings.terms
        point = point_of(terms, variable)
        bindings = {i.name: p for i, p in zip(variable.indices, point, strict=True)}
        evaluator = Evaluator(self.program, terms)
        first, second = (
            evaluator.pure(cast(ir.Expr, variable.view), state, **bindings) for state in self.states
        )
        owner = not name.endswith(".return") or evaluator.pure(variable.owner, self.states[0], **bindings)
        same = terms.implies(cast(Truth, owner), equal(terms, first, second, variable.type))
        return Goal(
            name,
            terms.truth(same),
            tuple(terms.truth(one) for one in self.assumed if one is not True),
            minimise=partial(self._minimise, evaluator),
            explain=partial(self._explain, name, variable, point, (first, second), evaluator),
        )

    def _minimise(self, evaluator: Evaluator) -> list[z3.ExprRef]:
        places = list(used_items(self.starts[0], (*self.used, evaluator)))
        values = [*self.given.values(), *(value_at(s, *place) for s in self.starts for place in places)]
        return [value for value in values if isinstance(value, z3.ExprRef)]

    def _explain(
        self,
        goal: str,
        variable: ir.StateVariable,
        point: Point,
        seen: tuple[Value, Value],
        evaluator: Evaluator,
        model: z3.ModelRef,
    ) -> Counterexample:
        concrete = Concrete(model)
        name = item(variable.name, concrete.point(point))
        row = (name, *(show_record(concrete, one, variable.type) for one in seen))
        is_return = goal.endswith(".return")
        first, second = (self._items(concrete, state, evaluator) for state in self.starts)
        registers = {v.name for v in self.program.state_in("register")}
        others = (
            {f"{AWAY}{n}": value for n, value in second.items() if n.split("[")[0] in registers}
            if is_return
            else second
        )
        case = Case(
            kind=KIND,
            id=goal,
            code=b"",
            instruction=name,
            state=first,
            expected={**others, **{n: concrete.number(value) for n, value in self.given.items()}},
            columns=self.columns,
            text=f"{name}: {self.wrong}",
        )
        return Counterexample(
            f"{name}: {self.wrong}", ("", *self.columns), (row,), variable.span, case.document()
        )

    def _items(self, concrete: Concrete, state: State, evaluator: Evaluator) -> dict[str, int]:
        return {
            item(variable.name, concrete.point(point)): concrete.number(value_at(state, variable, point))
            for variable, point in used_items(state, (*self.used, evaluator))
            if variable.space != "ghost"
        }


def _switched(evaluator: Evaluator, state: State, guest: Value) -> State:
    cursor = Cursor(state.copy(), {})
    evaluator.call(evaluator.program.functions[SWITCH], (guest,), cursor, [])
    return cursor.state


def _policies(promises: Promises, state: State) -> Iterator[Truth]:
    """The policies without parameters, of a guest that runs."""
    names = {one.name for one in promises.every if one.is_policy and not one.predicate.parameters}
    yield from promises.of_running(state, names).values()


@dataclass(frozen=True, slots=True)
class _New(Source):
    """Initial values before a guest is made: its VMCS is zero, and what is shared is the same on both sides."""

    program: ir.Program
    symbols: Symbols
    side: str

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The value at a point."""
        if variable.space == "vmcs":
            return 0
        side = "" if is_shared(self.program, variable) else f"!{self.side}"
        return self.symbols.value(f"{variable.name}{side}", variable, point)


@dataclass(frozen=True, slots=True)
class _Own(Source):
    """Initial values of which the guest's own are the same on both sides: its VMCS, and what is kept for it."""

    program: ir.Program
    symbols: Symbols
    guest: Value
    side: str

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
