"""Solvers that read SMT-LIB text decide the same questions; contradictions and missing packages are told."""

import gc
import sys
from dataclasses import replace
from typing import Any

import pytest
import z3

import grammar
from checks.cli import main
from checks.commands.prove import exit_status
from checks.extract import extract
from checks.families import families
from checks.prover.selection import select
from checks.solve import GroupRunner, Limits
from checks.solvers import text
from checks.solvers.answer import Answer
from checks.solvers.terms import script
from checks.solvers.text import SolverError, TextSolver, text_solver
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Status

PROGRAM = grammar.load()
OTHERS = ("cvc5", "bitwuzla")
ALL = ("z3", *OTHERS)


def group_of(*conclusions: z3.BoolRef) -> Group:
    goals = tuple(Goal(f"g.{number}", one) for number, one in enumerate(conclusions))
    return Group("g", conclusions[0].ctx, goals)


@pytest.mark.parametrize("name", OTHERS)
def test_verdicts_of_a_solver(name: str) -> None:
    context = z3.Context()
    x, y = z3.BitVecs("x y", 5, context)
    f = z3.Function("f", x.sort(), y.sort())
    group = group_of(
        z3.Implies(x == y, f(x) == f(y)), f(x) == f(y), z3.Or(y == 0, z3.UDiv(x, y) * y + z3.URem(x, y) == x)
    )
    results = list(GroupRunner(group, Limits(), solvers=(name,)).run())
    assert [r.status for r in results] == [Status.PROVED, Status.REFUTED, Status.PROVED]


@pytest.mark.parametrize("name", OTHERS)
def test_a_refused_text_is_an_error_and_no_verdict(name: str) -> None:
    with pytest.raises(SolverError, match=name):
        text_solver(name).check("(assert (= x #x1))\n(check-sat)", 5.0)


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_with_two_types_is_an_error(name: str) -> None:
    context = z3.Context()
    wide, narrow = z3.BitVec("x", 8, context), z3.BitVec("x", 4, context)
    with pytest.raises(SolverError, match="declares x twice"):
        text_solver(name).check(script((z3.ZeroExt(4, narrow) != wide,)), 5.0)


@pytest.mark.parametrize("name", OTHERS)
def test_a_question_may_have_arrays(name: str) -> None:
    context = z3.Context()
    words = z3.Array("words", z3.BitVecSort(4, context), z3.BitVecSort(8, context))
    x, y = z3.BitVecs("x y", 4, context)
    answer = text_solver(name).check(script((x == y, words[x] != words[y])), 5.0)
    assert answer.verdict == "unsat"


@pytest.mark.parametrize("name", OTHERS)
def test_a_hard_question_is_unknown(name: str) -> None:
    context = z3.Context()
    x, y = z3.BitVecs("x y", 64, context)
    goal = z3.Or(
        x * y != 0x1234_5678_9ABC_DEF1, z3.ULE(x, 1), z3.ULE(y, 1), z3.UGT(x, 1 << 33), z3.UGT(y, 1 << 33)
    )
    answer = text_solver(name).check(script((z3.Not(goal),)), 0.2)
    assert (answer.verdict, answer.is_timeout) == ("unknown", True)


@pytest.mark.parametrize(
    "group",
    ["trap.CLTS", "isolation.invalidate", "isolation.walk", "fast.IMUL_3", "manual.guest_segment_rules"],
)
def test_solvers_agree_on_every_family(group: str) -> None:
    known = families()
    task = next(task for task in select(PROGRAM, known, []) if task.group == group)
    built = known[task.family].build(extract(PROGRAM, task.roots), group, z3.Context())
    results = list(GroupRunner(built, Limits(), solvers=ALL).run())
    assert {r.status for r in results} == {Status.PROVED}


def test_contradicting_solvers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_sat(_solver: Any, _script: str, _seconds: float) -> Answer:
        return Answer("sat")

    monkeypatch.setattr(TextSolver, "check", always_sat)
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    [result] = GroupRunner(group_of(z3.UGE(x, 0)), Limits(), solvers=("z3", "cvc5")).run()
    assert result.status is Status.DISAGREEMENT
    assert result.detail == "z3 says unsat, cvc5 says sat"
    assert exit_status({Status.PROVED, Status.DISAGREEMENT}) == 5


def test_unknown_of_one_solver_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextSolver, "check", lambda *_: Answer("unknown", reason="incomplete"))
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    [result] = GroupRunner(group_of(z3.UGE(x, 0)), Limits(), solvers=("z3", "cvc5")).run()
    assert result.status is Status.UNKNOWN


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "bitwuzla", None)
    text.text_solver.cache_clear()
    assert main(["prove", "trap.CLTS", "--solver", "bitwuzla"]) == 2
    assert "not installed: pip install" in capsys.readouterr().err
    text.text_solver.cache_clear()


def test_counterexample_of_another_solver_is_explained() -> None:
    known = families()
    task = next(task for task in select(PROGRAM, known, []) if task.group == "trap.CLTS")
    instruction = PROGRAM.instructions["CLTS"]
    bodies = tuple(
        replace(b, body=tuple(s for s in b.body if getattr(s, "clause", "") != "exit"))
        for b in instruction.bodies
    )
    faulty = replace(
        PROGRAM, instructions={**PROGRAM.instructions, "CLTS": replace(instruction, bodies=bodies)}
    )
    built = known[task.family].build(extract(faulty, task.roots), "trap.CLTS", z3.Context())
    results = {r.id: r for r in GroupRunner(built, Limits(), solvers=("bitwuzla",)).run()}
    found = results["trap.CLTS.E"]
    assert found.status is Status.REFUTED
    assert found.counterexample is not None


def test_terms_outlive_their_builder() -> None:
    context = z3.Context()
    symbol = Terms(context).symbol("x", 64)
    smaller = Terms(context).compare("<", symbol, 5, 64)
    for _ in range(3):  # memory that was freed would be used again
        other = Terms(context)
        assert all(other.symbol(f"y{n}", 64).size() == 64 for n in range(1000))
        del other
        gc.collect()
    assert str(smaller) == "ULT(x, 5)"
