"""Runs the goals of one group through z3.

Verdicts are limited by `rlimit`, which counts the solver's work and so is the same on every machine and under every
load; the wall-clock limit is a safety net only. `SimpleSolver` comes first, since it is several times faster on
bit vectors with uninterpreted functions; what it leaves open goes to the combined `Solver`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import z3

from checks.theorem import Goal, Group, Result, Status

FIRST_RLIMIT = 3_000_000
SECOND_RLIMIT = 60_000_000
MINIMISE_RLIMIT = 1_000_000


class Cache(Protocol):
    """Remembers which SMT-LIB texts were unsatisfiable (`PROVED`) or satisfiable witnesses."""

    def get(self, text: str) -> str | None: ...

    def put(self, text: str, verdict: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one solver call: `rlimit` for each of the two solvers, `seconds` of wall clock."""

    first_rlimit: int = FIRST_RLIMIT
    second_rlimit: int = SECOND_RLIMIT
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A solver's answer: `verdict` is sat, unsat or unknown; `model` with sat, `reason` with unknown."""

    verdict: str
    solver: z3.Solver
    seconds: float
    rlimit: int
    reason: str = ""
    cached: bool = False


def run_group(group: Group, limits: Limits, cache: Cache | None = None, family: str = "") -> Iterator[Result]:
    """Yields a result for each goal of the group, as it comes."""
    vacuous = _vacuity(group, limits, cache)
    for goal in group.goals:
        yield replace(_run_goal(group, goal, vacuous, limits, cache), family=family, group=group.name)


def _vacuity(group: Group, limits: Limits, cache: Cache | None) -> Result | None:
    """None if every witness of the group is satisfiable, else the (unnamed) result that says which is not."""
    for witness in group.witnesses:
        answer = _ask(group, witness.conditions, limits, cache)
        if answer.verdict == "unsat":
            return _open(Status.VACUOUS, f"nothing satisfies the assumptions: {witness.name}", answer)
        if answer.verdict == "unknown":
            return _open(_unknown(answer), f"no witness found for: {witness.name}", answer)
    return None


def _run_goal(group: Group, goal: Goal, vacuous: Result | None, limits: Limits, cache: Cache | None) -> Result:
    if vacuous is None and goal.hypotheses:
        own = _ask(group, goal.hypotheses, limits, cache)
        if own.verdict == "unsat":
            vacuous = _open(Status.VACUOUS, "nothing satisfies the assumptions of this goal", own)
    if goal.is_syntactic:
        proved = Result(goal.id, "", "", Status.PROVED, 0.0, syntactic=True)
        return proved if vacuous is None else replace(vacuous, id=goal.id)
    answer = _ask(group, (*goal.hypotheses, z3.Not(goal.conclusion)), limits, cache)
    if answer.verdict == "sat":
        return _refute(group, goal, answer)
    if answer.verdict == "unknown":
        return replace(_open(_unknown(answer), answer.reason, answer), id=goal.id)
    if vacuous is not None:
        return replace(vacuous, id=goal.id)
    return Result(goal.id, "", "", Status.PROVED, answer.seconds, answer.rlimit, cached=answer.cached)


def _open(status: Status, detail: str, answer: Answer) -> Result:
    return Result("", "", "", status, answer.seconds, answer.rlimit, detail=detail)


def _unknown(answer: Answer) -> Status:
    return Status.TIMEOUT if answer.reason in ("timeout", "canceled") else Status.UNKNOWN


def _ask(group: Group, conditions: tuple[z3.BoolRef, ...], limits: Limits, cache: Cache | None) -> Answer:
    """Whether the group's hypotheses and `conditions` are satisfiable together."""
    first = _solver(z3.SimpleSolver(ctx=group.context), group, conditions)
    text = first.to_smt2() if cache is not None else ""
    if cache is not None:
        known = cache.get(text)
        if known is not None:
            return Answer(known, first, 0.0, 0, cached=True)
    answer = _check(first, limits.first_rlimit, limits.seconds)
    if answer.verdict == "unknown" and answer.reason != "timeout":
        second = _solver(z3.Solver(ctx=group.context), group, conditions)
        again = _check(second, limits.second_rlimit, max(0.0, limits.seconds - answer.seconds))
        answer = replace(again, seconds=answer.seconds + again.seconds, rlimit=answer.rlimit + again.rlimit)
    if cache is not None and answer.verdict != "unknown":
        cache.put(text, answer.verdict)
    return answer


def _solver(solver: z3.Solver, group: Group, conditions: tuple[z3.BoolRef, ...]) -> z3.Solver:
    solver.add(*group.hypotheses, *conditions)
    return solver


def _check(solver: z3.Solver, rlimit: int, seconds: float) -> Answer:
    solver.set("rlimit", rlimit)
    solver.set("timeout", max(1, int(seconds * 1000)))
    start = time.monotonic()
    verdict = str(solver.check())
    elapsed = time.monotonic() - start
    reason = solver.reason_unknown() if verdict == "unknown" else ""
    return Answer(verdict, solver, elapsed, _rlimit_count(solver), reason)


def _rlimit_count(solver: z3.Solver) -> int:
    statistics = solver.statistics()
    return int(statistics.get_key_value("rlimit count")) if "rlimit count" in statistics.keys() else 0


def _refute(group: Group, goal: Goal, answer: Answer) -> Result:
    """The refutation with a small model.  A cached `sat` has no model yet: it is solved once more."""
    solver = answer.solver
    if answer.cached:
        solver.check()
    counterexample = goal.explain(_minimise(solver, goal)) if goal.explain is not None else None
    detail = counterexample.summary if counterexample is not None else "the solver found a counterexample"
    return Result(
        goal.id, "", "", Status.REFUTED, answer.seconds, answer.rlimit, cached=answer.cached, detail=detail,
        counterexample=counterexample,
    )  # fmt: skip


def _minimise(solver: z3.Solver, goal: Goal) -> z3.ModelRef:
    """A model with as many of `goal.minimise` zero as one pass of trying gives."""
    model = solver.model()
    solver.set("rlimit", MINIMISE_RLIMIT)
    for term in goal.minimise:
        zero = z3.Not(term) if z3.is_bool(term) else term == 0
        if z3.is_true(model.eval(zero, model_completion=True)):
            solver.add(zero)
            continue
        solver.push()
        solver.add(zero)
        if solver.check() == z3.sat:
            model = solver.model()
        else:
            solver.pop()
    return model
