"""Splits a goal by whether the step wrote the word of memory that the goal is about.

In each case the word is one term, not a choice between the old one and the new. Where the step did not write it, the
goal then has the very terms of the assumptions, which saves most of the solver's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3

from checks.isolation.world import MEMORY, World
from checks.symbolic.state import Elements, State
from checks.symbolic.terms import Truth
from checks.symbolic.values import Point, Value, key


@dataclass(slots=True)
class KnownWord:
    """A memory of which one word is known."""

    old: Elements
    point: Point
    word: Value

    def read(self, point: Point) -> Value:
        """The word at a point."""
        is_here = all(key(a) == key(b) for a, b in zip(point, self.point, strict=True))
        return self.word if is_here else self.old.read(point)


def cases(world: World, state: State, point: Point) -> Iterator[tuple[Truth, State]]:
    """(condition, the state under it) for each way the word at `point` came about."""
    yield from _split(state, point, world.read(state, MEMORY, *point), world, condition=True)


def _split(
    state: State, point: Point, word: Value, world: World, *, condition: Truth
) -> Iterator[tuple[Truth, State]]:
    if isinstance(word, z3.BitVecRef) and z3.is_app_of(word, z3.Z3_OP_ITE):
        is_written, then, otherwise = word.children()
        assert isinstance(is_written, z3.BoolRef)
        both = world.terms.conjunction((condition, is_written))
        yield from _split(state, point, then, world, condition=both)
        neither = world.terms.conjunction((condition, world.terms.negation(is_written)))
        yield from _split(state, point, otherwise, world, condition=neither)
        return
    known = state.copy()
    known.set(MEMORY, KnownWord(state.elements(MEMORY), point, word))
    yield condition, known
