"""Which instances of the invariant a proof assumes.

An invariant holds at all points; a proof assumes it at those that matter, found by matching (`patterns.py`): where the
invariant reads indexed state at its own parameters, the points at which step and goal use that state are taken for
them. A parameter that no read determines (an offset inside a page) takes the values that goal and step have of
that name.
Assuming too few instances can only lose proofs, never make a false one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import cast

from checks.isolation.patterns import Patterns, determining
from checks.isolation.world import Sightings, World
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth
from checks.symbolic.values import Value, key
from grammar import ir

Named = Sequence[tuple[str, Value]]
"""The arguments of the step and the point of the goal, by name."""


@dataclass(slots=True)
class Instances:
    """The instances of one program's invariants in the state before the step."""

    world: World
    patterns: Patterns
    _known: dict[object, tuple[Truth, tuple[Value, ...]]] = field(default_factory=dict)
    _evaluator: Evaluator = field(init=False)

    def __post_init__(self) -> None:
        self._evaluator = self.world.evaluator()

    def at(self, seen: Sequence[Sightings], named: Named) -> Iterator[Truth]:
        """The instances of all invariants that these sightings call for."""
        for invariant in self.world.program.invariants.values():
            points = {tuple(key(v) for v in p): p for p in self._points(invariant, seen, named)}
            for point in points.values():
                instance = self._instance(invariant, point)
                if instance is not True:
                    yield instance

    def seen(self) -> Sightings:
        """What all instances so far look at."""
        return self.world.sightings(self._evaluator.touched)

    def _instance(self, invariant: ir.Predicate, point: tuple[Value, ...]) -> Truth:
        at = (invariant.name, tuple(key(v) for v in point))
        if at not in self._known:
            locals_ = {p.name: v for p, v in zip(invariant.parameters, point, strict=True)}
            cursor = Cursor(self.world.before.copy(), locals_)
            truth = cast(Truth, self._evaluator.evaluate(invariant.condition, cursor, []))
            self._known[at] = (truth, point)  # the point too: its terms must live as long as their keys
        return self._known[at][0]

    def _points(
        self, invariant: ir.Predicate, seen: Sequence[Sightings], named: Named
    ) -> Iterator[tuple[Value, ...]]:
        patterns = determining(self.patterns.of[invariant.name])
        if not patterns:
            yield from product(*(_choices(p, {}, named) for p in invariant.parameters))
        for name, parameters in patterns:
            for sightings in seen:
                for point in sightings.get(name, {}).values():
                    bound = dict(zip(parameters, point, strict=True))
                    yield from product(*(_choices(p, bound, named) for p in invariant.parameters))


def _choices(parameter: ir.Parameter, bound: dict[str, Value], named: Named) -> list[Value]:
    """The values to try for a parameter."""
    if parameter.name in bound:
        return [bound[parameter.name]]
    return [value for name, value in named if name == parameter.name]
