"""Explains what a run does that left calls open, as a case: the state, the arguments, and what the calls do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import z3

from checks.case import Case
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import RETURN, Exit
from checks.symbolic.state import Elements, State, value_at
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value, equal, fresh, leaves
from checks.theorem import Counterexample, Witness
from checks.totality.havoc import CALLS, Havoc, OpenCall
from checks.trap.concrete import Concrete, item
from checks.trap.contract import FAULT, VM_EXIT
from grammar import ir
from grammar.source import Span

KIND = "totality"
"""The kind of the cases of this family."""

_WORDS = {RETURN: "returns", FAULT: "faults", VM_EXIT: "exits"}

MEMORY = "PHYSICAL"


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of `function` from a state; it ends in one of `ends`, and `used` are the evaluators that made the terms."""

    function: ir.Function
    arguments: tuple[Value, ...]
    start: State
    havoc: Havoc
    ends: Sequence[Exit]
    used: Sequence[Evaluator]

    def minimise(self) -> Sequence[z3.ExprRef]:
        """All that was used of the start, and the arguments."""
        values = [value_at(self.start, *place) for place in used_items(self.start, self.used)]
        values += [
            part
            for p, argument in zip(self.function.parameters, self.arguments, strict=True)
            for _, part, _ in leaves(argument, p.type)
        ]
        return [value for value in values if isinstance(value, z3.ExprRef)]

    def witnesses(self) -> tuple[Witness, ...]:
        """That the run ends in each way in which it may; that it returns comes first."""
        terms = self.start.surroundings.terms
        kinds = dict.fromkeys(sorted((one.kind for one in self.ends), key=lambda kind: kind != RETURN))
        conditions = {kind: [e.condition for e in self.ends if e.kind == kind] for kind in kinds}
        return tuple(
            Witness(end_in_words(kind), terms.truth(terms.disjunction(ways)))
            for kind, ways in conditions.items()
        )

    def broken(
        self,
        kind: str,
        goal: str,
        places: Mapping[str, Truth],
        summary: str,
        where: Span,
        model: z3.ModelRef,
        *,
        claim: str = "",
    ) -> Counterexample:
        """What does not hold of `places`, and the case: it says `claim`, or else the first of them."""
        concrete = Concrete(model)
        wrong = [name for name, holds in places.items() if not concrete.holds(holds)]
        case = self.case(concrete, kind, goal, claim or (wrong or [*places])[0], summary)
        return Counterexample(summary, ("broken",), tuple((name,) for name in wrong), where, case)

    def case(self, concrete: Concrete, kind: str, goal: str, claim: str, text: str) -> dict[str, object]:
        """The start, and behind the function's name those of the calls on the way, which do what the model says."""
        calls = list(self._made(concrete))
        expected = dict(_argument_values(concrete, self.function, self.arguments))
        for number, call in enumerate(calls):
            expected |= {f"{number}: {name}": value for name, value in self._done(concrete, call)}
        return Case(
            kind=kind,
            id=goal,
            code=b"",
            instruction="; ".join((self.function.name, *(call.name for call in calls), claim)),
            state=dict(start_items(concrete, self.start, self.used)),
            memory=tuple(start_bytes(concrete, self.start, self.used)),
            expected=expected,
            text=text,
        ).document()

    def _made(self, concrete: Concrete) -> Iterator[OpenCall]:
        """The calls on the way that is taken."""
        end = next((one for one in self.ends if concrete.holds(one.condition)), None)
        for call in self.havoc.calls if end is not None else ():
            if concrete.number(made_by(cast(Exit, end), call.number)):
                yield call

    def _done(self, concrete: Concrete, call: OpenCall) -> Iterator[tuple[str, int]]:
        """What a call writes, raises and returns, by name."""
        raised = next((one for one in call.raises if concrete.holds(one.condition)), None)
        if raised is None or raised.is_late:
            for name, value in call.writes.items():
                variable = self.start.surroundings.program.state[name]
                yield from self._written(concrete, variable, value)
        if raised is not None:
            type_ = self.havoc.program.aborts[raised.kind].type
            yield f"raises {raised.kind}", 1
            for leaf, part, _ in leaves(raised.value, type_, raised.kind):
                yield leaf, concrete.number(part)
        elif call.result is not None:
            for leaf, part, _ in leaves(*call.result, "result"):
                yield leaf, concrete.number(part)

    def _written(
        self, concrete: Concrete, variable: ir.StateVariable, value: Value | Elements
    ) -> Iterator[tuple[str, int]]:
        if isinstance(variable.type, ir.Struct) or variable.space == "ghost":
            return
        if not variable.indices:
            yield variable.name, concrete.number(cast(Value, value))
            return
        for point in points_of(variable.name, self.used):
            yield (
                item(variable.name, concrete.point(point)),
                concrete.number(cast(Elements, value).read(point)),
            )


def made_by(end: Exit, number: int) -> Vector:
    """1 if the call of that number was made on the way to an end, else 0."""
    return cast(Vector, end.state.elements(CALLS).read((number,)))


def end_in_words(kind: str) -> str:
    """How a run ends: it returns, raises something, or ends at a call."""
    return _WORDS.get(kind, f"calls {kind}")


def used_items(state: State, used: Iterable[Evaluator]) -> Iterator[tuple[ir.StateVariable, Point]]:
    """The items of state that terms were made from."""
    program = state.surroundings.program
    for one in used:
        for name in one.touched.names | one.touched.points.keys():
            variable = program.state.get(name)
            if variable is not None and not isinstance(variable.type, ir.Struct):
                points = points_of(name, [one]) if variable.indices else [()]
                yield from ((variable, point) for point in points)


def points_of(name: str, used: Iterable[Evaluator]) -> Iterator[Point]:
    """The points at which an indexed item was used."""
    for one in used:
        yield from one.touched.points.get(name, {}).values()


def is_same(machine: Evaluator, variable: ir.StateVariable, a: State, b: State) -> Truth:
    """Whether state is the same in two states: of what is indexed, an arbitrary element.  The machine then used it."""
    terms = machine.terms
    point = tuple(fresh(terms, f"{variable.name}.{i.name}", i.type) for i in variable.indices)
    if point:
        machine.touched.element(variable.name, point)
    machine.touched.names.add(variable.name)
    return equal(terms, value_at(a, variable, point), value_at(b, variable, point), variable.type)


def start_items(concrete: Concrete, state: State, used: Iterable[Evaluator]) -> Iterator[tuple[str, int]]:
    """The values of what was used, as far as they are not those of reset."""
    for variable, point in used_items(state, used):
        value = concrete.number(value_at(state, variable, point))
        if value != variable.reset and variable.space != "ghost":
            yield item(variable.name, concrete.point(point)), value


def start_bytes(concrete: Concrete, state: State, used: Iterable[Evaluator]) -> Iterator[tuple[int, bytes]]:
    """The words of memory that were used, where they are not zero."""
    memory = state.surroundings.memories[MEMORY]
    for (address,) in points_of(MEMORY, used):
        found = concrete.number(memory.read(state.elements(MEMORY), cast(Vector, address), 64))
        if found:
            yield concrete.number(address), found.to_bytes(8, "little")


def _argument_values(
    concrete: Concrete, function: ir.Function, arguments: tuple[Value, ...]
) -> Iterator[tuple[str, int]]:
    for parameter, value in zip(function.parameters, arguments, strict=True):
        for leaf, part, _ in leaves(value, parameter.type):
            yield ".".join(filter(None, (function.name, parameter.name, leaf))), concrete.number(part)
