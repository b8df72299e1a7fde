"""Theorems about a function that accesses memory through a translation, with the calls that translate left open.

Such a call raises what its text raises, or returns the same offset in a frame of which little more is known than that
it is the guest's, or the device's: other theorems say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import z3

from checks.function_case import IT_RETURNS
from checks.isolation.explain import explain
from checks.isolation.world import FRAME_WIDTH, INDEX_WIDTH, MEMORY, World
from checks.symbolic.evaluate import Call, Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value
from checks.theorem import Counterexample, Explain, Goal, Group, Witness
from checks.totality.havoc import CALLS, Havoc, aborts_of
from checks.totality.open_run import OpenRun
from checks.trap.concrete import Concrete
from grammar import ir

KIND = "translation"
"""The kind of the cases."""

READS, WRITES, LANDS = "reads_own_frames", "writes_own_frames", "lands_in_own_frame"
"""The claims about a run."""


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose frames the calls return: `predicate` of the specification says of an owner and a frame that it is one."""

    predicate: str
    owner: Value


@dataclass(slots=True)
class OpenTranslation:
    """A run of a function that calls `translation`, in the state before."""

    world: World
    function: ir.Function
    arguments: Point
    translation: str
    owned: Owned
    evaluator: Evaluator = field(init=False)
    havoc: Havoc = field(init=False)
    after: Cursor = field(init=False)
    result: Value = field(init=False)
    frames: list[Vector] = field(default_factory=list)

    def __post_init__(self) -> None:
        world, program = self.world, self.world.program
        world.before.surroundings.memories[CALLS] = ByteMemory(world.terms, 64, lambda _number: 0)
        self.havoc = Havoc(program, world.terms, aborts_of(program))
        self.evaluator = Evaluator(program, world.terms, overrides={self.translation: self._translated})
        self.after = Cursor(world.before.copy(), {})
        self.result = cast(Value, self.evaluator.call(self.function, self.arguments, self.after, []))

    def _translated(self, call: Call) -> Value:
        """What a call of the translation may do."""
        name, terms = call.function.name, self.world.terms
        opened = self.havoc.begin(name, call.cursor)
        self.havoc.raise_any(opened, call.evaluator, self.havoc.aborts[name], call.cursor, call.exits)
        frame = terms.symbol(f"{opened.label}.frame", FRAME_WIDTH)
        self.frames.append(frame)
        offset = terms.extract(cast(Vector, call.argument("address")), 11, 0)
        place = terms.concat([(0, 12), (frame, FRAME_WIDTH), (offset, 12)])
        opened.result = place, cast(ir.Type, call.function.result)
        return place

    # --- claims ----------------------------------------------------------------------------------

    def owns(self, frame: Value) -> Truth:
        """Whether a frame is the owner's."""
        function = self.world.program.functions[self.owned.predicate]
        before = Cursor(self.world.before.copy(), {})
        return cast(Truth, self.evaluator.call(function, (self.owned.owner, frame), before, []))

    def reads(self) -> Truth:
        """All words that are looked at are in the owner's frames."""
        seen = self.world.sightings(self.evaluator.touched)[MEMORY]
        return self.world.terms.conjunction(self.owns(frame) for frame, _ in seen.values())

    def writes(self) -> Truth:
        """A word that is not in the owner's frames, any one, is as before."""
        world = self.world
        frame, index = (
            world.terms.symbol(f"any.{n}", w) for n, w in (("frame", FRAME_WIDTH), ("index", INDEX_WIDTH))
        )
        unchanged = world.equal_words(world.before, self.after.state, (frame, index))
        return world.terms.disjunction((unchanged, self.owns(frame)))

    def group(self, name: str, claims: Mapping[str, Truth], values: dict[str, Value]) -> Group:
        """The claims as goals, by name, about runs that return."""
        world = self.world
        given = [self.after.alive, *map(self.owns, self.frames)]
        witness = Witness(IT_RETURNS, world.all_of(given))
        goals = tuple(
            Goal(
                f"{name}.{claim}",
                world.follows(given, truth),
                witnesses=(witness,),
                minimise=self._small,
                explain=self._explain(f"{name}.{claim}", claim, values),
            )
            for claim, truth in claims.items()
        )
        return Group(name, world.context, goals)

    # --- counterexamples -------------------------------------------------------------------------

    def _run(self) -> OpenRun:
        end = Exit(self.after.alive, RETURN, self.result, self.after.state, {}, None)
        return OpenRun(self.function, self.arguments, self.world.before, self.havoc, [end], [self.evaluator])

    def _small(self) -> list[z3.ExprRef]:
        """What a counterexample shall have zero: the frames, and what the run used."""
        values = [*self.frames, self.owned.owner]
        return [*(v for v in values if isinstance(v, z3.ExprRef)), *self._run().minimise()]

    def _explain(self, goal: str, claim: str, values: dict[str, Value]) -> Explain:
        text = f"{self.function.source} can reach what is not the guest's"
        told = explain(self.world, text, self.function.span, values)
        return partial(self._explained, goal, claim, text, told)

    def _explained(
        self, goal: str, claim: str, text: str, told: Explain, model: z3.ModelRef
    ) -> Counterexample:
        concrete = Concrete(model)
        claimed = f"{claim}({self.owned.predicate}, {concrete.number(self.owned.owner)})"
        return replace(told(model), case=self._run().case(concrete, KIND, goal, claimed, text))
