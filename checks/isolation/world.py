"""An arbitrary state of the machine, and the evaluation of spec functions in it and in its successors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator, Override
from checks.symbolic.expressions import ForAll, Touched
from checks.symbolic.memory import WordMemory
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Value, fresh, lifted, width_of
from grammar import ir

MEMORY = "PHYSICAL"
FRAME_WIDTH = 40
INDEX_WIDTH = 9

Sightings = dict[str, dict[object, Point]]
"""The points at which each piece of state was used, memory as (frame, index of the word)."""


@dataclass(slots=True)
class ArbitraryState:
    """A source of initial values: a symbol for each scalar, an uninterpreted function for all that is indexed."""

    terms: Terms

    def scalar(self, variable: ir.StateVariable) -> Value:
        """A symbol."""
        return fresh(self.terms, variable.name, variable.type)

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The function at the point."""
        is_bool = isinstance(variable.type, ir.Bool)
        widths = [width_of(index.type) for index in variable.indices]
        function = self.terms.function(variable.name, widths, 0 if is_bool else width_of(variable.type))
        arguments = [lifted(self.terms, v, i.type) for v, i in zip(point, variable.indices, strict=True)]
        return cast(Value, function(*arguments))

    def word(self, point: Point) -> Value:
        """A 64-bit word of memory."""
        function = self.terms.function(MEMORY, (FRAME_WIDTH, INDEX_WIDTH), 64)
        frame, index = cast(tuple[Vector, Vector], point)
        return cast(
            Value, function(self.terms.vector(frame, FRAME_WIDTH), self.terms.vector(index, INDEX_WIDTH))
        )


@dataclass(slots=True)
class World:
    """One z3 context with an arbitrary state, `before`, in it."""

    program: ir.Program
    context: z3.Context
    overrides: dict[str, Override] = field(default_factory=dict)
    terms: Terms = field(init=False)
    memory: WordMemory = field(init=False)
    before: State = field(init=False)

    def __post_init__(self) -> None:
        self.terms = Terms(self.context)
        source = ArbitraryState(self.terms)
        self.memory = WordMemory(self.terms, FRAME_WIDTH, source.word)
        self.before = State(Surroundings(self.program, self.terms, source, {MEMORY: self.memory}))

    def evaluator(self) -> Evaluator:
        """A new evaluator, which has touched nothing."""
        return Evaluator(self.program, self.terms, overrides=self.overrides)

    def symbol(self, name: str, type_: ir.Type) -> Value:
        """An arbitrary value of the type."""
        return fresh(self.terms, name, type_)

    def look(self, function: str, state: State, *arguments: Value) -> tuple[Value, Sightings]:
        """What a spec function without effects says in a state, and what it looks at."""
        evaluator = self.evaluator()
        result = evaluator.call(self.program.functions[function], arguments, Cursor(state.copy(), {}), [])
        return cast(Value, result), self.sightings(evaluator.touched)

    def truth(self, function: str, state: State, *arguments: Value) -> Truth:
        """What a predicate of the spec says in a state."""
        return cast(Truth, self.look(function, state, *arguments)[0])

    def read(self, state: State, name: str, *point: Value) -> Value:
        """An element of indexed state, or a word of memory at (frame, index)."""
        return state.elements(name).read(point)

    def equal_words(self, a: State, b: State, point: Point) -> Truth:
        """Whether a word of memory is the same in two states."""
        left, right = (cast(Vector, self.read(s, MEMORY, *point)) for s in (a, b))
        return self.terms.equal(left, right, 64)

    def sightings(self, touched: Touched) -> Sightings:
        """What an evaluation has looked at or changed."""
        seen: Sightings = {name: dict(points) for name, points in touched.points.items() if name != MEMORY}
        words = (
            self.memory.point(cast(Vector, address)) for (address,) in touched.points.get(MEMORY, {}).values()
        )
        seen[MEMORY] = {tuple(_key(v) for v in point): point for point in words}
        return seen

    def proposition(self, truth: Truth) -> z3.BoolRef:
        """A truth value as a term."""
        return self.terms.truth(truth)

    def follows(self, assumptions: Sequence[Truth], conclusion: Truth) -> z3.BoolRef:
        """The assumptions imply the conclusion; true outright if it is one of them."""
        goal = self.proposition(conclusion)
        if any(self.terms.same(goal, a) for a in assumptions):
            return z3.BoolVal(True, self.context)
        return self.proposition(self.terms.implies(self.all_of(assumptions), conclusion))

    def all_of(self, truths: Iterable[Truth]) -> z3.BoolRef:
        """The conjunction of many truths, in time proportional to their number."""
        distinct = {p.get_id(): p for p in map(self.proposition, truths)}
        parts = list(distinct.values())
        if len(parts) < 2:  # a conjunction of one is no SMT-LIB
            return parts[0] if parts else z3.BoolVal(True, self.context)
        return z3.And(*parts)


def _key(value: Value) -> object:
    return value.get_id() if isinstance(value, z3.AstRef) else value


@dataclass(frozen=True, slots=True)
class Run:
    """A step that was taken: what it required, the state after it, and what it looked at."""

    requirements: tuple[Truth, ...]
    after: State
    seen: Sightings
    arguments: dict[str, Value]


def take_step(world: World, step: ir.Step, for_all: ForAll | None = None) -> Run:
    """Takes a step with arbitrary arguments, its requirements being met; `for_all` is the evaluator's."""
    arguments = {p.name: world.symbol(f"step.{p.name}", p.type) for p in step.parameters}
    types = {p.name: p.type for p in step.parameters}
    cursor = Cursor(world.before.copy(), dict(arguments), types)
    evaluator = world.evaluator()
    evaluator.for_all = for_all
    exits: Exits = []
    requirements: list[Truth] = []
    for statement in step.body:
        if isinstance(statement, ir.If) and statement.clause == "require":
            refused = cast(Truth, evaluator.evaluate(statement.condition, cursor, exits))
            requirements.append(world.terms.negation(refused))
        else:
            evaluator.run((statement,), cursor, exits)
    after = exits[-1].state if cursor.alive is False else cursor.state
    return Run(tuple(requirements), after, world.sightings(evaluator.touched), arguments)
