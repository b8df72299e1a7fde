"""Theorems about one step: each conjunct of the invariant holds after it; the data of others is as before; what a
guest is handed is zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import z3

from checks.isolation.cases import cases
from checks.isolation.explain import ITS, case_of, explain, far_frames
from checks.isolation.instances import Instances
from checks.isolation.patterns import Patterns, evaluate
from checks.isolation.universals import Universals
from checks.isolation.world import Run, Sightings, World, take_step
from checks.symbolic.terms import Truth
from checks.symbolic.values import Value, width_of
from checks.theorem import Counterexample, Explain, Goal, Group, Witness
from grammar import ir

OTHERS_UNCHANGED = "others_unchanged"
HANDED_OVER_ZERO = "handed_over_zero"
IS_TAKEN = "the step is taken"

FUNCTIONS = frozenset({"is_data_of_others", "read_entry"})
"""The functions of the specification that the statements use."""


def owner_of_actor(step: ir.Step) -> tuple[str, str] | None:
    """Where it is said for which guest a step of the hardware acts, and the parameter that is the index there."""
    owners = {"cpu": "RUNNING", "device": "DEVICE_OWNER"} if step.hardware else {}
    return next(((owners[p.name], p.name) for p in step.parameters if p.name in owners), None)


def goal_names(program: ir.Program) -> tuple[str, ...]:
    """The theorems about each step."""
    return (*program.invariants, OTHERS_UNCHANGED, HANDED_OVER_ZERO)


def step_group(world: World, patterns: Patterns, step: ir.Step, name: str) -> Group:
    """All theorems about a step."""
    universals = Universals(world)
    run = take_step(world, step, universals.leave_open)
    return StepProof(world, step, run, universals, Instances(world, patterns)).group(name)


@dataclass(slots=True)
class StepProof:
    """The proof of one step in one world."""

    world: World
    step: ir.Step
    run: Run
    universals: Universals
    instances: Instances

    def group(self, name: str) -> Group:
        """The goals, and one witness for all their assumptions together."""
        world = self.world
        goals, assumed = [], []
        for goal, conclusion, seen, point in self._conclusions():
            assumptions = self._assumptions(seen, point) if conclusion is not True else []
            assumed += assumptions
            truth = world.follows(assumptions, conclusion)
            told = self._explained(f"{name}.{goal}", point, seen)
            goals.append(Goal(f"{name}.{goal}", truth, minimise=partial(self._preferred, seen), explain=told))
        witness = Witness(IS_TAKEN, world.all_of((*assumed, *self.universals.of_one_value())))
        witnessed = tuple(replace(goal, witnesses=(witness,)) for goal in goals)
        requirements = tuple(world.proposition(r) for r in self.run.requirements)
        return Group(name, world.context, witnessed, requirements)

    def _explained(self, goal: str, point: dict[str, Value], seen: Sightings) -> Explain:
        """The counterexample to a goal, with the case that replays it."""
        claim = goal.rsplit(".", 1)[-1]
        values = {**self.run.arguments, **{f"{ITS}{name}": value for name, value in point.items()}}
        summary = f"{claim} can be false after {self.step.name}"
        told = explain(self.world, summary, self.step.span, values, self.run.after)
        calls = (
            (self.step.name, tuple(self.run.arguments.values())),
            (claim, tuple(point.values())),
        )
        text = f"{claim} holds before {self.step.name} and not after"

        def render(model: z3.ModelRef) -> Counterexample:
            case = case_of(self.world, model, goal, calls, self._in_sight(seen), text)
            return replace(told(model), case=case)

        return render

    def _in_sight(self, seen: Sightings) -> tuple[Sightings, ...]:
        """What the step, a goal and the assumptions look at: the state of a case."""
        return self.run.seen, seen, self.instances.seen(), *self.universals.seen()

    def _preferred(self, seen: Sightings) -> tuple[z3.BoolRef, ...]:
        """What a counterexample shall avoid."""
        is_inexact = self.world.terms.negation(self.universals.exact())
        return self.world.proposition(is_inexact), *far_frames(self.world, self._in_sight(seen))

    def _conclusions(self) -> Iterator[tuple[str, Truth, Sightings, dict[str, Value]]]:
        """(name, conclusion, what it looks at, the point it is about) of each theorem."""
        for invariant in self.world.program.invariants.values():
            point = {p.name: self.world.symbol(f"goal.{p.name}", p.type) for p in invariant.parameters}
            if self.instances.patterns.state[invariant.name].isdisjoint(self.run.after.changed):
                yield invariant.name, True, {}, point  # nothing that it is about has changed
            else:
                yield invariant.name, *self._preserved(invariant, point), point
        yield OTHERS_UNCHANGED, *self._others_unchanged()
        yield HANDED_OVER_ZERO, *self._handed_over_zero()

    def _preserved(self, invariant: ir.Predicate, point: dict[str, Value]) -> tuple[Truth, Sightings]:
        """The invariant holds at the point after the step."""
        terms, after = self.world.terms, self.run.after
        truth, seen = evaluate(self.world, invariant, after, tuple(point.values()))
        patterns = self.instances.patterns.of[invariant.name]
        reads = [(name, tuple(point[p] for p in parameters)) for name, parameters in patterns]
        split = list(cases(self.world, after, reads))
        if len(split) > 1:
            states = ((c, evaluate(self.world, invariant, s, tuple(point.values()))[0]) for c, s in split)
            truth = terms.conjunction(terms.implies(c, t) for c, t in states)
        return truth, seen

    def _assumptions(self, seen: Sightings, point: dict[str, Value]) -> list[Truth]:
        named, in_sight = [*self.run.arguments.items(), *point.items()], (self.run.seen, seen)
        return [*self.universals.at(in_sight), *self.instances.at(in_sight, named)]

    def _word(self) -> tuple[dict[str, Value], Sightings]:
        """An arbitrary word of memory, and how looking at it is noted."""
        types = self.world.program.functions["read_entry"].parameters
        point = {p.name: self.world.symbol(f"goal.{p.name}", p.type) for p in types}
        frame, index = point.values()
        return point, {"PHYSICAL": {"goal": (frame, index)}, "FRAME_KIND": {"goal": (frame,)}}

    def _others_unchanged(self) -> tuple[Truth, Sightings, dict[str, Value]]:
        """No word of the VMM's own frames, or of a guest's data, changes, but by the guest's own stores."""
        world, run = self.world, self.run
        point, seen = self._word()
        frame, index = point.values()
        actor = self._actor()
        is_others = world.truth("is_data_of_others", world.before, actor, frame)
        unchanged = world.equal_words(world.before, run.after, (frame, index))
        return world.terms.implies(is_others, unchanged), seen, point

    def _actor(self) -> Value:
        """The guest on whose behalf the hardware acts; 0 if nobody's."""
        owner = owner_of_actor(self.step)
        if owner is None:
            return 0
        state, parameter = owner
        return self.world.read(self.world.before, state, self.run.arguments[parameter])

    def _handed_over_zero(self) -> tuple[Truth, Sightings, dict[str, Value]]:
        """A frame that becomes a guest's holds zeros."""
        world, run, terms = self.world, self.run, self.world.terms
        point, seen = self._word()
        frame, index = point.values()
        before, after = (world.read(s, "FRAME_OWNER", frame) for s in (world.before, run.after))
        guest = width_of(world.program.state["FRAME_OWNER"].type)
        changes = terms.negation(terms.equal(before, after, guest))
        to_guest = terms.negation(terms.equal(after, 0, guest))
        is_zero = terms.equal(world.read(run.after, "PHYSICAL", frame, index), 0, 64)
        return terms.implies(terms.conjunction((changes, to_guest)), is_zero), seen, point
