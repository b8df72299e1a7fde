"""Renders the model of a refuted theorem as a small table: the point of the goal, and the state at the frames in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import z3

from checks.isolation.world import Run, World
from checks.symbolic.values import Value
from checks.theorem import Counterexample, Explain
from grammar import ir


def explain(world: World, run: Run, step: ir.Step, point: Mapping[str, Value]) -> Explain:
    """What to tell about a model: the step's arguments and the goal's point, and the state of each frame, guest and
    processor among them."""
    told = {**run.arguments, **{f"its {name}": value for name, value in point.items()}}

    def render(model: z3.ModelRef) -> Counterexample:
        rows = [(name, _shown(model, value)) for name, value in told.items()]
        rows += _state_rows(world, model, told)
        return Counterexample(f"after {step.name} it can be false", ("what", "value"), tuple(rows), step.span)

    return render


def _state_rows(world: World, model: z3.ModelRef, point: Mapping[str, Value]) -> list[tuple[str, str]]:
    """The state variables with one index, at the values of that width in the point."""
    rows = []
    for name, value in point.items():
        if not isinstance(value, z3.BitVecRef):
            continue
        for variable in world.program.state_in("state"):
            indices = [str(index.type) for index in variable.indices]
            kind = {40: "Frame", 8: "Vm", 3: "Cpu"}.get(value.size())
            if indices == [kind]:
                element = cast(Value, world.read(world.before, variable.name, value))
                rows.append((f"{variable.name}[{name}]", _shown(model, element)))
    return rows


def _shown(model: z3.ModelRef, value: Value) -> str:
    if not isinstance(value, z3.ExprRef):
        return str(value)
    result = model.eval(value)
    if isinstance(result, z3.BitVecNumRef):
        return f"{result.as_long():#x}"
    return str(result) if z3.is_true(result) or z3.is_false(result) else "any"
