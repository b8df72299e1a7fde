"""What the step theorems rest on: nothing but a step writes the state that the invariant is about.

This needs no solver: it is read off the specification. Memory is written by guests' instructions too, through
`translate` (see `walks.py`); among the VMM's own functions nothing but a step may write it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import z3

from checks.isolation.world import MEMORY
from checks.theorem import Counterexample, Explain, Goal, Group
from checks.walk import names_in, reachable_functions, state_read
from grammar import ir
from grammar.source import Span

SUBJECT = "only_steps_write"


def goal_names(program: ir.Program) -> tuple[str, ...]:
    """The state that the invariants are about."""
    read = [state_read(program, invariant.condition) for invariant in program.invariants.values()]
    return tuple(sorted(frozenset().union(*read)))


def structure_group(program: ir.Program, name: str, context: z3.Context) -> Group:
    """A goal for each of these items."""
    places: dict[str, list[Span]] = defaultdict(list)
    for item, place in _writes_outside_steps(program):
        places[item].append(place)
    goals = (_goal(f"{name}.{item}", item, places.get(item, []), context) for item in goal_names(program))
    return Group(name, context, tuple(goals))


def _goal(name: str, item: str, places: list[Span], context: z3.Context) -> Goal:
    return Goal(name, z3.BoolVal(not places, context), explain=_told(item, places))


def _told(item: str, places: list[Span]) -> Explain:
    rows = tuple(("written at", str(place)) for place in places)
    where = places[0] if places else None
    return lambda _model: Counterexample(f"{item} is written outside a step", ("what", "value"), rows, where)


def _writes_outside_steps(program: ir.Program) -> Iterator[tuple[str, Span]]:
    """(item, place) of each assignment that does not belong to a step."""
    vmm = _folder(next(iter(program.steps.values())).span)
    roots: list[tuple[Span, object]] = [(i.span, i.bodies) for i in program.instructions.values()]
    roots += [(h.span, h.body) for h in program.handlers.values()]
    roots += [(f.span, f.body) for f in _entry_points(program)]
    reachable = reachable_functions(program, [body for _, body in roots], frozenset(program.steps))
    for span, body in [*roots, *((f.span, f.body) for f in reachable)]:
        names = names_in(body)
        yield from ((one.name, one.span) for one in names.updates)
        if _folder(span) == vmm:
            yield from ((one.memory, one.span) for one in names.stores if one.memory == MEMORY)


def _entry_points(program: ir.Program) -> Iterator[ir.Function]:
    """The functions that only the machine around the specification calls."""
    bodies: list[object] = [f.body for f in program.functions.values()]
    bodies += [h.body for h in program.handlers.values()]
    bodies += [i.bodies for i in program.instructions.values()]
    called = {name for body in bodies for name in names_in(body).functions}
    return (f for name, f in program.functions.items() if name not in called and name not in program.steps)


def _folder(span: Span) -> PurePosixPath:
    return PurePosixPath(span.file).parent
