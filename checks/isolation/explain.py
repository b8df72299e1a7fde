"""Renders the model of a refuted theorem as a small table, and as a case that the reference model can replay."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import z3

from checks.case import Case
from checks.function_case import RAISES, RESULT, WORD, function_case
from checks.isolation.world import FRAME_WIDTH, MEMORY, Sightings, World
from checks.symbolic.paths import Cursor
from checks.symbolic.state import State
from checks.symbolic.terms import Vector
from checks.symbolic.values import Point, Value, leaves, width_of
from checks.theorem import Counterexample, Explain
from checks.trap.concrete import Concrete
from checks.walk import names_in, reachable_functions, state_read
from grammar import ir
from grammar.source import Span

# A case lies below this frame if it can: that is easier to read.
MOST_FRAMES = 1 << 14

ITS = "its "
"""Before the names of what the theorem is about, to tell them from the step's arguments."""


def explain(
    world: World, summary: str, where: Span, values: Mapping[str, Value], after: State | None = None
) -> Explain:
    """What to tell about a model: these values, and the state of each frame, guest and processor among them.

    With `after` it also says what the step made of that state.
    """
    types = _types(world.program)
    states = (world.before,) if after is None else (world.before, after)
    columns = ("what", "value") if after is None else ("what", "before", "after")

    def render(model: z3.ModelRef) -> Counterexample:
        typed = {
            name: (value, types.get(name.removeprefix(ITS), ir.Bits(64))) for name, value in values.items()
        }
        rows = [(name, _shown(model, *pair), *[""] * (len(states) - 1)) for name, pair in typed.items()]
        rows += _state_rows(world, model, typed, states)
        return Counterexample(summary, columns, tuple(rows), where)

    return render


def _types(program: ir.Program) -> dict[str, ir.Type]:
    """The types of the parameters of steps and invariants, by name."""
    owners: list[ir.Step | ir.Predicate] = [*program.steps.values(), *program.invariants.values()]
    return {p.name: p.type for owner in owners for p in owner.parameters}


def _state_rows(
    world: World, model: z3.ModelRef, values: Mapping[str, tuple[Value, ir.Type]], states: Sequence[State]
) -> Iterator[tuple[str, ...]]:
    """The state that the invariants are about, at each value that is of the type of its only index."""
    relevant = _relevant(world.program)
    for name, (value, type_) in values.items():
        for variable in world.program.state_in("state"):
            if variable.name in relevant and [index.type for index in variable.indices] == [type_]:
                elements = (world.read(state, variable.name, value) for state in states)
                yield f"{variable.name}[{name}]", *(_shown(model, e, variable.type) for e in elements)


def _relevant(program: ir.Program) -> frozenset[str]:
    """The state that the invariants read."""
    read = (state_read(program, invariant.condition) for invariant in program.invariants.values())
    return frozenset().union(*read)


def _shown(model: z3.ModelRef, value: Value, type_: ir.Type) -> str:
    """A value of the model; "any" if it does not matter."""
    result = model.eval(value) if isinstance(value, z3.ExprRef) else value
    if isinstance(result, z3.ExprRef) and not z3.is_bv_value(result):
        return str(result) if z3.is_true(result) or z3.is_false(result) else "any"
    number = result.as_long() if isinstance(result, z3.BitVecNumRef) else int(cast(int, result))
    if isinstance(type_, ir.Bool):
        return str(bool(number))
    if isinstance(type_, ir.Enum):
        return next((name for name, code in type_.members if code == number), f"{number:#x}")
    return f"{number:#x}"


# --- cases -----------------------------------------------------------------------------------------


def far_frames(world: World, seen: Iterable[Sightings]) -> tuple[z3.BoolRef, ...]:
    """That a frame in sight is far away, for each: a counterexample shall avoid it."""
    frames = {}
    for sightings in seen:
        for name, points in sightings.items():
            widths = _widths(world.program, name)
            for point in points.values():
                pairs = zip(point, widths, strict=True)
                frames.update(
                    {v.get_id(): v for v, w in pairs if w == FRAME_WIDTH and isinstance(v, z3.BitVecRef)}
                )
    return tuple(z3.UGE(frame, MOST_FRAMES) for frame in frames.values())


@dataclass(frozen=True, slots=True)
class Called:
    """A run of a function: its arguments and result, where control is after it, and what it looked at."""

    function: ir.Function
    arguments: Point
    result: Value
    after: Cursor
    seen: Sightings


Call: TypeAlias = tuple[str, Sequence[Value]]
"""A step, an invariant or a predicate of the specification, by name, and the point that it is asked at."""


def case_of(
    world: World, model: z3.ModelRef, goal: str, calls: Sequence[Call], seen: Iterable[Sightings], text: str
) -> dict[str, object]:
    """The model as a case: the state at the points in sight, what to do there, and the claim that then is false.

    What only proofs have, the caches, is in it where any of the calls is about them.
    """
    has_caches = any(_is_about_caches(world.program, name) for name, _ in calls)
    state, memory = _state(world, model, seen, {"state", "ghost"} if has_caches else {"state"})
    texts = [f"{name}({', '.join(str(_number(model, v)) for v in values)})" for name, values in calls]
    return Case(
        kind="isolation",
        id=goal,
        code=b"",
        instruction="; ".join(texts),
        state=state,
        memory=tuple((address, word.to_bytes(8, "little")) for address, word in sorted(memory.items())),
        text=text,
    ).document()


def called_case(
    world: World,
    model: z3.ModelRef,
    goal: str,
    called: Called,
    text: str,
) -> dict[str, object]:
    """The model as a case of a function, which returns or raises as the model says, and leaves the words in sight."""
    function, concrete = called.function, Concrete(model)
    state, memory = _state(world, model, [called.seen], {"state", "register", "vmcs"})
    given = zip(function.parameters, called.arguments, strict=True)
    expected = {
        name: concrete.number(part)
        for p, argument in given
        for name, part, _ in leaves(argument, p.type, f"{function.name}.{p.name}")
    }
    if concrete.holds(called.after.alive):
        assert function.result is not None
        expected |= {n: concrete.number(v) for n, v, _ in leaves(called.result, function.result, RESULT)}
        for point in called.seen[MEMORY].values():
            address = _number(model, point[0]) << 12 | _number(model, point[1]) << 3
            word = world.read(called.after.state, MEMORY, *point)
            expected[f"{WORD}{address}]"] = _number(model, word)
    else:
        expected[RAISES] = 1
    resets = {v.name: v.reset for v in world.program.state.values()}
    changed = {name: value for name, value in state.items() if value != resets[name.split("[")[0]]}
    words = {address: word.to_bytes(8, "little") for address, word in memory.items()}
    return function_case(goal, function.name, changed, words, expected, text)


def _is_about_caches(program: ir.Program, name: str) -> bool:
    """Steps of the hardware are; of others, those that have to be asked in a state with caches."""
    if name in program.steps:
        return program.steps[name].hardware
    invariant, function = program.invariants.get(name), program.functions.get(name)
    read = state_read(program, invariant.condition) if invariant is not None else frozenset()
    if function is not None:
        bodies = (function, *reachable_functions(program, [function.body]))
        read |= frozenset().union(*(names_in(one.body).reads for one in bodies))
    return any(_space(program, one) == "ghost" for one in read)


def _state(
    world: World, model: z3.ModelRef, seen: Iterable[Sightings], spaces: Container[str]
) -> tuple[dict[str, int], dict[int, int]]:
    """The values of state by item, and of words of memory by address."""
    plain = (v for v in world.program.state.values() if not v.indices and not isinstance(v.type, ir.Struct))
    scalars = (v.name for v in plain if v.space in spaces)
    state = {name: _number(model, world.before.get(name)) for name in scalars}
    memory = {}
    for sightings in seen:
        for name, points in sightings.items():
            for point in points.values():
                numbers = [_number(model, index) for index in point]
                value = _number(model, world.read(world.before, name, *point))
                if name == MEMORY:
                    memory[numbers[0] << 12 | numbers[1] << 3] = value
                elif _space(world.program, name) in spaces:
                    state[f"{name}[{','.join(map(str, numbers))}]"] = value
    return state, memory


def _number(model: z3.ModelRef, value: Value) -> int:
    if not isinstance(value, z3.ExprRef):
        return int(cast(Vector, value))
    result = model.eval(value, model_completion=True)
    return result.as_long() if isinstance(result, z3.BitVecNumRef) else int(z3.is_true(result))


def _space(program: ir.Program, name: str) -> str:
    return "memory" if name == MEMORY else program.state[name].space


def _widths(program: ir.Program, name: str) -> list[int]:
    if name == MEMORY:
        return [FRAME_WIDTH, 9]
    return [width_of(index.type) for index in program.state[name].indices]
