"""Splits a goal by whether the step changed what the goal is about.

A goal reads state at its own point: the entry, and the kind and owner of its table. In each case what it reads there
is one term, not a choice between the old value and the new. Where the step changed nothing of it, the goal then has
the very terms of the assumptions, which saves most of the solver's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import z3

from checks.isolation.world import World
from checks.symbolic.state import Elements, State
from checks.symbolic.terms import Truth
from checks.symbolic.values import Point, Value, key

Reads: TypeAlias = Sequence[tuple[str, Point]]
"""Elements of indexed state, or words of memory, by name and point."""

Decided: TypeAlias = Mapping[int, tuple[z3.BoolRef, bool]]
"""Conditions of choices, by the identity of their terms, and which way each is taken."""


@dataclass(slots=True)
class KnownElement:
    """Indexed state of which one element is known."""

    old: Elements
    point: Point
    value: Value

    def read(self, point: Point) -> Value:
        """The element at a point."""
        is_here = all(key(a) == key(b) for a, b in zip(point, self.point, strict=True))
        return self.value if is_here else self.old.read(point)


def cases(world: World, state: State, reads: Reads) -> Iterator[tuple[Truth, State]]:
    """(condition, the state under it) for each way in which the values read came about."""
    for decided in _decisions(world, state, reads, {}):
        known = state.copy()
        for name, point in reads:
            value = _resolved(world.read(state, name, *point), decided)
            known.set(name, KnownElement(known.elements(name), point, value))
        conditions = (c if taken else world.terms.negation(c) for c, taken in decided.values())
        yield world.terms.conjunction(conditions), known


def _decisions(world: World, state: State, reads: Reads, decided: Decided) -> Iterator[Decided]:
    """All ways to decide the choices in the values read."""
    for name, point in reads:
        value = _resolved(world.read(state, name, *point), decided)
        if _is_choice(value):
            condition = cast(z3.BoolRef, cast(z3.ExprRef, value).arg(0))
            for taken in (True, False):
                yield from _decisions(
                    world, state, reads, {**decided, condition.get_id(): (condition, taken)}
                )
            return
    yield decided


def _resolved(value: Value, decided: Decided) -> Value:
    """The value with the choices at its top made as decided."""
    while _is_choice(value):
        choice = cast(z3.ExprRef, value)
        at = choice.arg(0).get_id()
        if at not in decided:
            break
        value = cast(Value, choice.arg(1 if decided[at][1] else 2))
    return value


def _is_choice(value: Value) -> bool:
    return isinstance(value, z3.ExprRef) and z3.is_app_of(value, z3.Z3_OP_ITE)
