"""Renders the model of a refuted theorem as a small table: the point of the goal, and the state at the frames in it."""

from __future__ import annotations

from collections.abc import Mapping

import z3

from checks.isolation.world import World
from checks.symbolic.values import Value, width_of
from checks.theorem import Counterexample, Explain
from checks.walk import state_read
from grammar.source import Span


def explain(world: World, summary: str, where: Span, values: Mapping[str, Value]) -> Explain:
    """What to tell about a model: these values, and the state of each frame, guest and processor among them."""

    def render(model: z3.ModelRef) -> Counterexample:
        rows = [(name, _shown(model, value)) for name, value in values.items()]
        rows += _state_rows(world, model, values)
        return Counterexample(summary, ("what", "value"), tuple(rows), where)

    return render


def _state_rows(world: World, model: z3.ModelRef, point: Mapping[str, Value]) -> list[tuple[str, str]]:
    """The state that the invariants are about, where its one index is as wide as one of the values."""
    conditions = [invariant.condition for invariant in world.program.invariants.values()]
    relevant = {name for condition in conditions for name in state_read(world.program, condition)}
    rows = []
    for name, value in point.items():
        for variable in world.program.state_in("state"):
            widths = [width_of(index.type) for index in variable.indices]
            if variable.name in relevant and isinstance(value, z3.BitVecRef) and widths == [value.size()]:
                element = world.read(world.before, variable.name, value)
                rows.append((f"{variable.name}[{name}]", _shown(model, element)))
    return rows


def _shown(model: z3.ModelRef, value: Value) -> str:
    if not isinstance(value, z3.ExprRef):
        return str(value)
    result = model.eval(value)
    if isinstance(result, z3.BitVecNumRef):
        return f"{result.as_long():#x}"
    return str(result) if z3.is_true(result) or z3.is_false(result) else "any"
