"""Compares states of two runs, item by item, as the theorems ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from checks.symbolic.memory import BYTE
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, equal, fresh, width_of
from checks.trap.contract import LINEAR
from checks.trap.ownership import Ownership
from checks.trap.runs import LINEAR_WIDTH, Run
from grammar import ir


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two values that a theorem wants equal where `condition` holds.

    `name` may stand for one element, that at `point`.
    """

    condition: Truth
    name: str
    point: Point
    left: Value
    right: Value
    type: ir.Type
    is_equal: Truth


@dataclass(frozen=True, slots=True)
class Sides:
    """Two states to compare, where the condition holds, and the runs they belong to."""

    condition: Truth
    left: State
    right: State
    left_run: Run
    right_run: Run


def where_it_stays(first: Run, second: Run) -> Iterator[Sides]:
    """The states after two runs, where the first completes and where it faults."""
    yield Sides(first.completes, first.completed, second.completed, first, second)
    yield Sides(first.faults, first.faulted, second.faulted, first, second)


def before_and_after(run: Run) -> Iterator[Sides]:
    """The states before and after a run, where it completes and where it faults."""
    yield Sides(run.completes, run.start, run.completed, run, run)
    yield Sides(run.faults, run.start, run.faulted, run, run)


class Comparer:
    """Compares states.  Indexed state and memory are compared at one arbitrary point, a symbol.

    With `each_below` not zero, state that has fewer elements is compared at each of them: terms about one element are
    simpler, and often the same.
    """

    def __init__(self, ownership: Ownership, terms: Terms, each_below: int = 0) -> None:
        self.ownership, self.terms, self.each_below = ownership, terms, each_below

    def views(self, sides: Iterable[Sides]) -> Iterator[Comparison]:
        """What the guest sees in both states."""
        for pair in sides:
            for variable in self.ownership.seen({*pair.left.changed, *pair.right.changed}):
                for point in self._points(variable):
                    yield self._parts(pair, variable, variable.view, point)
            yield from self.memory(pair, LINEAR, LINEAR_WIDTH)

    def hosts(self, sides: Iterable[Sides]) -> Iterator[Comparison]:
        """What the VMM owns in both states."""
        for pair in sides:
            for variable in self.ownership.hosted({*pair.left.changed, *pair.right.changed}):
                for point in self._points(variable):
                    yield self._parts(pair, variable, variable.host, point)
            for memory in self.ownership.program.memories.values():
                yield from self.memory(pair, memory.name, memory.address.width)

    def guest_and_bare(self, sides: Iterable[Sides]) -> Iterator[Comparison]:
        """What the guest sees in the left state, and what the right one, of the bare machine, has."""
        for pair in sides:
            for variable in self.ownership.seen({*pair.left.changed, *pair.right.changed}):
                for point in self._points(variable):
                    left = self._part(pair.left_run, pair.left, variable.view, variable, point)
                    elements = pair.right.elements(variable.name).read if point else None
                    right = elements(point) if elements is not None else pair.right.get(variable.name)
                    yield self._comparison(pair, variable.name, point, left, right, variable.type)
            yield from self.memory(pair, LINEAR, LINEAR_WIDTH)

    def starts(self, variables: Iterable[ir.StateVariable], first: Run, second: Run) -> Iterator[Comparison]:
        """What the guest sees of the variables at the start of two runs, at every point that they use."""
        pair = Sides(True, first.start, second.start, first, second)
        for variable in variables:
            points: dict[object, Point] = {}
            for run in (first, second):
                points |= run.evaluator.touched.points.get(variable.name, {})
            for point in points.values() if variable.indices else [()]:
                yield self._parts(pair, variable, variable.view, point)

    def _parts(
        self, pair: Sides, variable: ir.StateVariable, part: ir.Expr | None, point: Point
    ) -> Comparison:
        left = self._part(pair.left_run, pair.left, part, variable, point)
        right = self._part(pair.right_run, pair.right, part, variable, point)
        return self._comparison(pair, variable.name, point, left, right, variable.type)

    def _comparison(
        self, pair: Sides, name: str, point: Point, left: Value, right: Value, type_: ir.Type
    ) -> Comparison:
        is_equal = equal(self.terms, left, right, type_)
        return Comparison(pair.condition, name, point, left, right, type_, is_equal)

    def _points(self, variable: ir.StateVariable) -> list[Point]:
        """The points at which to compare: of a variable that is not indexed, ()."""
        if 0 < 1 << sum(width_of(p.type) for p in variable.indices) < self.each_below:
            return list(product(*(range(1 << width_of(p.type)) for p in variable.indices)))
        return [tuple(fresh(self.terms, f"{variable.name}.{p.name}", p.type) for p in variable.indices)]

    def _part(
        self, run: Run, state: State, part: ir.Expr | None, variable: ir.StateVariable, point: Point
    ) -> Value:
        assert part is not None
        for parameter, index in zip(variable.indices, point, strict=True):
            run.evaluator.touched.argument(parameter, index)
        bindings = {p.name: v for p, v in zip(variable.indices, point, strict=True)}
        return run.evaluator.pure(part, state, **bindings)

    def memory(self, pair: Sides, name: str, width: int) -> Iterator[Comparison]:
        """A byte, at an arbitrary address of so many bits, of a memory that differs."""
        a, b = pair.left.elements(name), pair.right.elements(name)
        if a is not b:
            point = (self.terms.symbol(f"{name}.address", width),)
            yield self._comparison(pair, name, point, a.read(point), b.read(point), BYTE)
