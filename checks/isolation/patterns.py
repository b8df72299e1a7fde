"""Which state an invariant reads at its own parameters: by this its instances are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import z3

from checks.isolation.world import Sightings, World
from checks.symbolic.state import State
from checks.symbolic.terms import Truth
from checks.symbolic.values import Value, key
from checks.walk import state_read
from grammar import ir

Pattern: TypeAlias = tuple[str, tuple[str, ...]]
"""A state variable, or the memory, and the parameters that stand as its indices."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """By invariant: its patterns, those that determine most of its parameters first; and all the state it reads."""

    of: dict[str, list[Pattern]]
    state: dict[str, frozenset[str]]


def evaluate(
    world: World, invariant: ir.Predicate, state: State, point: Sequence[Value]
) -> tuple[Truth, Sightings]:
    """The invariant in a state at a point, and what it looks at there."""
    evaluator = world.evaluator()
    names = [p.name for p in invariant.parameters]
    truth = evaluator.pure(invariant.condition, state.copy(), **dict(zip(names, point, strict=True)))
    return cast(Truth, truth), world.sightings(evaluator.touched)


def find_patterns(program: ir.Program) -> Patterns:
    """The patterns of all invariants, found by evaluating each at arbitrary values of its parameters."""
    world = World(program, z3.Context())
    invariants = program.invariants.items()
    return Patterns(
        {name: _patterns(world, invariant) for name, invariant in invariants},
        {name: state_read(program, invariant.condition) for name, invariant in invariants},
    )


def determining(patterns: Sequence[Pattern]) -> list[Pattern]:
    """The patterns that determine most parameters."""
    return [pattern for pattern in patterns if _determined(pattern) == _determined(patterns[0])]


def _determined(pattern: Pattern) -> int:
    return len(set(pattern[1]))


def _patterns(world: World, invariant: ir.Predicate) -> list[Pattern]:
    """The reads whose indices are parameters of the invariant."""
    symbols = [world.symbol(p.name, p.type) for p in invariant.parameters]
    names = {key(s): p.name for s, p in zip(symbols, invariant.parameters, strict=True)}
    _, seen = evaluate(world, invariant, world.before, symbols)
    found = [
        (state, tuple(names[key(v)] for v in point))
        for state, points in seen.items()
        for point in points.values()
        if all(key(v) in names for v in point)
    ]
    return sorted(found, key=_determined, reverse=True)
