"""What a step asks of each processor, or of each of other values (`for all`), whatever their number.

The proof of a step leaves open whether it is true: a symbol stands for it. Assumed is that the symbol implies what is
said of each value that the goal looks at; these are found by matching, as the instances of the invariant are. Assuming
too few of them can only lose proofs. Witnesses and counterexamples are about states in which the symbol has the value
that the specification gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import z3

from checks.isolation.world import Sightings, World
from checks.symbolic.expressions import ExpressionEvaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value, key, width_of
from grammar import ir


@dataclass(frozen=True, slots=True)
class Universal:
    """A `for all` that was left open; `reads` says at which index of which state its variable stands."""

    node: ir.ForAll
    bounds: Point
    cursor: Cursor
    truth: z3.BoolRef
    reads: frozenset[tuple[str, int]]


@dataclass(slots=True)
class Universals:
    """Those of one step."""

    world: World
    _found: list[Universal] = field(default_factory=list)

    def leave_open(
        self, _evaluator: ExpressionEvaluator, node: ir.ForAll, bounds: Point, cursor: Cursor
    ) -> Truth:
        """A symbol in the place of all instances."""
        truth = self.world.terms.bool_symbol(f"for all {node.name} {len(self._found)}")
        inner = Cursor(cursor.state.copy(), dict(cursor.locals), cursor.types)
        variable = self.world.symbol(f"any {node.name}", node.first.type)
        _, seen = self._look(node, (variable,), bounds, inner)
        self._found.append(Universal(node, bounds, inner, truth, frozenset(_places(variable, seen))))
        return truth

    def at(self, seen: Sequence[Sightings]) -> Iterator[Truth]:
        """What they say of the values in sight."""
        for one in self._found:
            points = (
                p[at]
                for sightings in seen
                for name, at in one.reads
                for p in sightings.get(name, {}).values()
            )
            for value in {key(value): value for value in points}.values():
                yield self.world.terms.implies(one.truth, self._said(one, (value,)))

    def of_one_value(self) -> Iterator[Truth]:
        """Each is about one value, and true exactly if what it says of that is."""
        terms = self.world.terms
        for one in self._found:
            first, last = cast(tuple[Vector, Vector], one.bounds)
            yield terms.equal(first, last, width_of(one.node.first.type))
            yield terms.equivalent(one.truth, self._said(one, one.bounds[:1]))

    def exact(self) -> Truth:
        """Each is true exactly if what it says of all values is."""
        terms = self.world.terms
        return terms.conjunction(
            terms.equivalent(one.truth, self._said(one, _all_values(one))) for one in self._found
        )

    def seen(self) -> tuple[Sightings, ...]:
        """What they look at, for all values."""
        return tuple(self._look(one.node, _all_values(one), one.bounds, one.cursor)[1] for one in self._found)

    def _said(self, one: Universal, values: Iterable[Value]) -> Truth:
        return self._look(one.node, values, one.bounds, one.cursor)[0]

    def _look(
        self, node: ir.ForAll, values: Iterable[Value], bounds: Point, cursor: Cursor
    ) -> tuple[Truth, Sightings]:
        """What is said of values, and what is looked at for it."""
        evaluator = self.world.evaluator()
        said = self.world.terms.conjunction(
            [evaluator.instance(node, cast(Vector, v), bounds, cursor) for v in values]
        )
        return said, self.world.sightings(evaluator.touched)


def _all_values(one: Universal) -> range:
    return range(1 << width_of(one.node.first.type))


def _places(variable: Value, seen: Sightings) -> Iterator[tuple[str, int]]:
    """(state, position) of each index that is the variable."""
    for name, points in seen.items():
        for point in points.values():
            yield from ((name, at) for at, index in enumerate(point) if key(index) == key(variable))
