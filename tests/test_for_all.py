"""`for all`: the same in every back end, flat in the number of values in proofs, though no fault in it is missed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
import z3

import grammar
from checks.case import parse_case
from checks.extract import Roots, extract
from checks.gallery.bugs import Bug, Patch, with_bug
from checks.isolation import Isolation
from checks.isolation.replay import replay
from checks.isolation.steps import FUNCTIONS, IS_TAKEN
from checks.isolation.world import World
from checks.mutate.places import Mutant, Rewriter, mutated, rewritten
from checks.solve import GroupRunner, Limits
from checks.theorem import Group, Status
from checks.walk import nodes, reachable_functions
from checks.witnesses import replay_witnesses
from grammar import ir
from grammar.check import SpecificationChecker
from grammar.parse import parse
from refmodel.model import build

PROGRAM = grammar.load()
ASKING = "is_invalidated_everywhere"
NEEDED = FUNCTIONS | {"retire", "code_size", "fetch_translate", "#UD", "#GP"}
"""What a group about the step, and a machine that takes it, are made from."""
TEXT = """
function are_others(first: bits(3), last: bits(3), one: bits(3)) -> bool
  return for all n in first..last: n != one
"""
EVERY = [(first, last, one) for first in range(8) for last in range(8) for one in range(8)]
EXPECTED = [one not in range(first, last + 1) for first, last, one in EVERY]
CPUS_64 = (
    Patch("vmm/frames.isa", "type Cpu = bits(3)", "type Cpu = bits(6)"),
    Patch("vmm/device_interrupts.isa", "cpu as bits(3)", "cpu as bits(6)"),
    Patch("vmm/device_isolation.isa", "LAST_CPU as bits(3), 8)", "LAST_CPU as bits(6), 8)"),
    Patch("vmm/device_isolation.isa", "LAST_CPU as bits(3), 32)", "LAST_CPU as bits(6), 32)"),
)


@cache
def tiny() -> ir.Program:
    parsed = parse(TEXT, "test.isa")
    checker = SpecificationChecker(parsed.items, parsed.suspects)
    program = checker.run()
    assert [*parsed.errors, *checker.errors] == []
    return program


def patched(*patches: Patch) -> ir.Program:
    """The specification with other text."""
    return with_bug(Bug("", "", "", "", "", patches), None)


def group_of(program: ir.Program, step: str) -> Group:
    return Isolation().build(program, f"isolation.{step}", z3.Context())


# --- what it means ---


def test_the_reference_asks_all_values() -> None:
    are_others = build(tiny()).functions["are_others"]
    assert [bool(are_others(None, *arguments)) for arguments in EVERY] == EXPECTED


def test_the_compiled_reference_asks_all_values() -> None:
    pytest.importorskip("llvmlite")
    from fastmodel.compiler.build import QUICK, Target, load
    from fastmodel.reference.statements import StatementWriter

    function = tiny().functions["are_others"]
    writer = StatementWriter(cast(Any, None), "i1")
    writer.take(function.parameters)
    head = "define i1 @asked(i3 %argument.0, i3 %argument.1, i3 %argument.2) {"
    wide = """
define i64 @are_others(i64 %a, i64 %b, i64 %c) {
  %first = trunc i64 %a to i3
  %last = trunc i64 %b to i3
  %one = trunc i64 %c to i3
  %holds = call i1 @asked(i3 %first, i3 %last, i3 %one)
  %result = zext i1 %holds to i64
  ret i64 %result
}"""
    text = "\n".join([head, *writer.finish(function.body), "}", wide])
    code = load(Target.host(threaded=False, effort=QUICK), "for_all", text.encode(), lambda: (text, ""))
    are_others = code.function("are_others", 3)
    assert [bool(are_others(*arguments)) for arguments in EVERY] == EXPECTED


def test_the_proofs_ask_all_values() -> None:
    world = World(tiny(), z3.Context())
    assert [world.truth("are_others", world.before, *arguments) for arguments in EVERY] == EXPECTED
    symbols = [world.symbol(name, ir.bits(3)) for name in ("first", "last", "one")]
    first, last, one = cast(list[z3.BitVecRef], symbols)
    holds = world.proposition(world.truth("are_others", world.before, *symbols))
    solver = z3.Solver(ctx=world.context)
    within = z3.And(z3.ULE(first, one), z3.ULE(one, last))
    solver.add(holds == within)
    assert solver.check() == z3.unsat


# --- in proofs of steps ---


def steps_that_ask() -> list[str]:
    """The steps with a `for all` in what they require, or in what that calls."""
    bodies = {name: [step.body] for name, step in PROGRAM.steps.items()}
    for found in bodies.values():
        found += [f.body for f in reachable_functions(PROGRAM, found)]
    return [
        name for name, found in bodies.items() if any(isinstance(n, ir.ForAll) for n in nodes(tuple(found)))
    ]


def size(group: Group) -> float:
    """The number of distinct terms in all that the solver is asked about a group."""
    asked = z3.Goal(ctx=group.context)
    for goal in group.goals:
        asked.add(z3.Not(goal.conclusion), *(witness.condition for witness in goal.witnesses))
    asked.add(*group.hypotheses)
    return float(z3.Probe("num-exprs", group.context)(asked))


def test_eight_times_as_many_processors_take_no_more_terms() -> None:
    many = patched(*CPUS_64)
    asking = steps_that_ask()
    assert set(asking) >= {"release", "retire"}
    for step in asking:
        assert size(group_of(many, step)) == pytest.approx(size(group_of(PROGRAM, step)), rel=0.01)


def faults() -> list[Mutant]:
    """All mutants of the function of the specification that asks something of each processor."""
    found: dict[Mutant, None] = {}
    rewritten(PROGRAM.functions[ASKING], Rewriter("functions", ASKING, None, found))
    return list(found)


def test_there_are_faults_of_each_kind() -> None:
    assert {"skip first", "skip last", "comparison", "swap operands"} <= {one.operator for one in faults()}


@pytest.mark.parametrize("fault", faults(), ids=lambda one: one.operator)
def test_a_processor_that_is_left_out_is_found(fault: Mutant) -> None:
    """What the solver finds happens on the reference."""
    program = extract(mutated(PROGRAM, fault), Roots(steps=("retire",), functions=NEEDED))
    group = group_of(program, "retire")
    first = next(one for one in GroupRunner(group, Limits()).run() if one.status is not Status.PROVED)
    assert first.status is Status.REFUTED
    assert first.counterexample is not None
    case = parse_case(cast(Any, first.counterexample.case))
    assert replay(case, build(program)) == 0


def test_witnesses_are_states_in_which_the_step_is_taken() -> None:
    model = build(replace(PROGRAM, instructions={}))
    for step in steps_that_ask():
        found = [one for one in replay_witnesses(group_of(PROGRAM, step), model, Limits()) if not one.why_not]
        assert {(one.witness, one.outcome) for one in found} == {(IS_TAKEN, IS_TAKEN)}
