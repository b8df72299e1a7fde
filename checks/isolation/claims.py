"""How theorems about functions of the specification and single facts are stated, in an arbitrary state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import z3

from checks.function_case import IT_RETURNS
from checks.isolation.explain import Call, Called, called_case, case_of, explain
from checks.isolation.instances import Instances
from checks.isolation.patterns import Patterns
from checks.isolation.world import FRAME_WIDTH, World
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value
from checks.theorem import Counterexample, Explain, Goal, Group, Witness
from grammar import ir

Proof: TypeAlias = Callable[[World, Patterns, str], Group]
"""What builds a group of that name."""

THERE_IS = "there is such a translation"
"""The witness of a lemma."""


def symbols(world: World, function: str, names: Sequence[str]) -> list[Value]:
    """Symbols with the names, and the types, of parameters of the function or of a step."""
    types = {p.name: p.type for step in world.program.steps.values() for p in step.parameters}
    types |= {p.name: p.type for p in world.program.functions[function].parameters}
    return [world.symbol(name, types[name]) for name in names]


def lemma(
    world: World,
    patterns: Patterns,
    name: str,
    given: Call | None,
    claim: Call,
    values: dict[str, Value],
) -> Goal:
    """What the invariant makes of a condition: `given` and `claim` are predicates of the specification."""
    condition, seen = world.look(given[0], world.before, *given[1]) if given is not None else (True, {})
    conclusion, looked = world.look(claim[0], world.before, *claim[1])
    instances = Instances(world, patterns)
    assumptions = [cast(Truth, condition), *instances.at((seen, looked), list(values.items()))]
    witness = Witness(THERE_IS, world.all_of(assumptions))
    text = f"{claim[0]} can be false"
    told = explain(world, text, world.program.functions[claim[0]].span, values)
    calls = (claim,) if given is None else (given, claim)

    def render(model: z3.ModelRef) -> Counterexample:
        in_sight = (seen, looked, instances.seen())
        return replace(told(model), case=case_of(world, model, name, calls, in_sight, text))

    truth = world.follows(assumptions, cast(Truth, conclusion))
    return Goal(name, truth, witnesses=(witness,), explain=render)


def run_function(world: World, function: ir.Function, arguments: Point) -> Called:
    """A run of a function."""
    evaluator, cursor = world.evaluator(), Cursor(world.before.copy(), {})
    result = cast(Value, evaluator.call(function, arguments, cursor, []))
    return Called(function, arguments, result, cursor, world.sightings(evaluator.touched))


def group_about(
    world: World,
    name: str,
    called: Called,
    conclusions: Mapping[str, tuple[Sequence[Truth], Truth]],
    values: dict[str, Value],
) -> Group:
    """Goals about one run of a function that returns: by name, the assumptions and the conclusion."""
    function = called.function
    assumed = [truth for assumptions, _ in conclusions.values() for truth in assumptions]
    witness = Witness(IT_RETURNS, world.all_of(assumed))
    text = f"{function.source} can reach what is not the guest's"
    goals = tuple(
        Goal(
            f"{name}.{goal}",
            world.follows(assumptions, conclusion),
            witnesses=(witness,),
            explain=explain_called(world, f"{name}.{goal}", called, text, values),
        )
        for goal, (assumptions, conclusion) in conclusions.items()
    )
    return Group(name, world.context, goals)


def explain_called(
    world: World, goal: str, called: Called, text: str, values: Mapping[str, Value]
) -> Explain:
    """What to tell about a model in which a function does what it should not."""
    told = explain(world, text, called.function.span, values)

    def render(model: z3.ModelRef) -> Counterexample:
        return replace(told(model), case=called_case(world, model, goal, called, text))

    return render


def frame_of(world: World, address: Vector) -> Vector:
    """The number of the frame that an address is in."""
    return world.terms.extract(address, 11 + FRAME_WIDTH, 12)


def same_offset(world: World, result: Vector, address: Vector) -> Truth:
    """The result is an address of a frame, with the offset that the address has in its page."""
    terms = world.terms
    offset = terms.equal(terms.extract(result, 11, 0), terms.extract(address, 11, 0), 12)
    return terms.conjunction((offset, terms.equal(terms.extract(result, 63, 52), 0, 12)))
