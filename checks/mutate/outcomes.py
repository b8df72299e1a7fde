"""Compares what two versions of a piece of the specification do from the same state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import RETURN, Cursor, Exits, Paths
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, equal, fresh
from grammar import ir


@dataclass(frozen=True, slots=True)
class End:
    """One way to end: under which condition, with which value and state.  `type` is that of the value."""

    condition: Truth
    value: Value | None
    type: ir.Type | None
    state: State


Outcome = dict[str, End]
"""The ends by kind: `RETURN`, or the name of an abort."""


def outcome(
    evaluator: Evaluator, cursor: Cursor, exits: Exits, result: tuple[Value, ir.Type] | None
) -> Outcome:
    """Where control is now, and where it has left; `result` is what a function returned and its type."""
    paths, scope = Paths(evaluator.terms), Cursor(cursor.state, {})
    value, type_ = result if result is not None else (None, None)
    returns = [e for e in exits if e.kind == RETURN]
    ends = {RETURN: End(cursor.alive, value, type_, cursor.state)}
    if returns:
        merged = paths.merge_exits(returns, None, scope)
        ends[RETURN] = End(merged.condition, None, None, merged.state)
    for kind in dict.fromkeys(e.kind for e in exits if e.kind != RETURN):
        carried = evaluator.program.aborts[kind].type
        merged = paths.merge_exits([e for e in exits if e.kind == kind], carried, scope)
        ends[kind] = End(merged.condition, merged.value, carried, merged.state)
    return ends


@dataclass(frozen=True, slots=True)
class Difference:
    """The conditions for two outcomes to be the same: that they end alike, and in the same values and states."""

    same_end: Truth
    same_values: Truth
    same_states: Truth


def compare(terms: Terms, left: Outcome, right: Outcome) -> Difference:
    """What makes two outcomes the same, end by end."""
    ends, values, states = [], [], []
    for kind in {**left, **right}:
        a, b = left.get(kind), right.get(kind)
        conditions = [end.condition if end is not None else False for end in (a, b)]
        ends.append(terms.equivalent(*conditions))
        if a is None or b is None:
            continue
        if a.value is not None and b.value is not None and a.type is not None:
            values.append(terms.implies(a.condition, equal(terms, a.value, b.value, a.type)))
        states.append(terms.implies(a.condition, same_state(terms, a.state, b.state)))
    return Difference(*(terms.conjunction(part) for part in (ends, values, states)))


def same_state(terms: Terms, a: State, b: State) -> Truth:
    """Two states are equal, indexed ones at an arbitrary point."""
    return terms.conjunction(_same_parts(terms, a, b))


def _same_parts(terms: Terms, a: State, b: State) -> Iterator[Truth]:
    program = a.surroundings.program
    for name in dict.fromkeys([*a.changed, *b.changed]):
        type_ = a.surroundings.type_of(name)
        variable = program.state.get(name)
        if variable is not None and not variable.indices:
            yield equal(terms, a.get(name), b.get(name), type_)
            continue
        point = _point(terms, a, name)
        yield equal(terms, a.elements(name).read(point), b.elements(name).read(point), type_)


def _point(terms: Terms, state: State, name: str) -> Point:
    """An arbitrary element of indexed state, or of a memory."""
    variable = state.surroundings.program.state.get(name)
    if variable is not None:
        return tuple(fresh(terms, f"any.{p.name}.{i}", p.type) for i, p in enumerate(variable.indices))
    memory = state.surroundings.memories[name]
    widths = [memory.frame_width, 9] if hasattr(memory, "frame_width") else [memory.address_width]  # type: ignore[attr-defined]
    return tuple(terms.symbol(f"any.{name}.{i}", width) for i, width in enumerate(widths))
