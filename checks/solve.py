"""Runs the goals of one group through z3.

Verdicts are limited by `rlimit`, which counts the solver's work and so is the same on every machine and under any
load; the wall-clock limit is a safety net only. `SimpleSolver` comes first, since it is several times faster on
bit vectors with uninterpreted functions; what it leaves open goes to the combined `Solver`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import z3

from checks.theorem import Counterexample, Goal, Group, Result, Status, Witness

FIRST_RLIMIT = 3_000_000
SECOND_RLIMIT = 60_000_000
MINIMISE_RLIMIT = 300_000


class Cache(Protocol):
    """Remembers a solver's answers by the SMT-LIB text of the question."""

    def get(self, text: str) -> str | None:
        """`sat` or `unsat` if that text was answered before."""
        ...

    def put(self, text: str, verdict: str) -> None:
        """Remembers the answer to a text."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one question: `rlimit` for each of the two solvers, `seconds` of wall clock for both."""

    first_rlimit: int = FIRST_RLIMIT
    second_rlimit: int = SECOND_RLIMIT
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question: `verdict` is sat, unsat or unknown; `solver` holds the model of a sat one."""

    verdict: str
    solver: z3.Solver
    seconds: float = 0.0
    rlimit: int = 0
    reason: str = ""
    cached: bool = False


@dataclass(slots=True)
class GroupRunner:
    """Asks the questions of one group; its hypotheses are asserted once."""

    group: Group
    family: str
    limits: Limits
    cache: Cache | None = None
    _solver: z3.Solver = field(init=False)
    _witnesses: dict[tuple[int, ...], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._solver = z3.SimpleSolver(ctx=self.group.context)
        self._solver.add(*self.group.hypotheses)

    def run(self) -> Iterator[Result]:
        """Yields a result for each goal, as it comes."""
        for goal in self.group.goals:
            yield self.prove(goal)

    def prove(self, goal: Goal) -> Result:
        """The verdict on one goal: its assumptions first, then the goal itself."""
        blank = Result(goal.id, self.family, self.group.name, Status.PROVED, 0.0)
        witnessed = self._witness(goal, blank)
        if witnessed.status is not Status.PROVED:
            return witnessed
        if goal.is_syntactic:
            return replace(witnessed, syntactic=True)
        self._solver.push()
        try:
            return self._decide(goal, witnessed)
        finally:
            self._solver.pop()

    def _witness(self, goal: Goal, blank: Result) -> Result:
        """PROVED with the name of the first satisfiable witness, VACUOUS if there is none."""
        always = Witness("satisfiable", z3.BoolVal(True, self.group.context))
        for witness in goal.witnesses or (always,):
            answer = self._satisfiable((*goal.hypotheses, witness.condition))
            if answer.verdict == "sat":
                return replace(blank, witness=witness.name)
            if answer.verdict == "unknown":
                return _open(blank, answer, f"no witness found: {witness.name}")
        return replace(blank, status=Status.VACUOUS, detail="nothing satisfies the assumptions")

    def _satisfiable(self, conditions: Sequence[z3.BoolRef]) -> Answer:
        """Whether conditions can hold; goals of one form share their witnesses, so the answer is remembered."""
        at = tuple(condition.get_id() for condition in conditions)
        if at not in self._witnesses:
            self._solver.push()
            self._solver.add(*conditions)
            self._witnesses[at] = self._ask()
            self._solver.pop()
        return self._witnesses[at]

    def _decide(self, goal: Goal, witnessed: Result) -> Result:
        self._solver.add(*goal.hypotheses, z3.Not(goal.conclusion))
        answer = self._ask()
        if answer.verdict == "unknown":
            return _open(witnessed, answer, answer.reason)
        decided = replace(witnessed, seconds=answer.seconds, rlimit=answer.rlimit, cached=answer.cached)
        if answer.verdict == "unsat":
            return decided
        counterexample = self._explain(goal, answer)
        detail = counterexample.summary if counterexample is not None else "the solver found a counterexample"
        return replace(decided, status=Status.REFUTED, detail=detail, counterexample=counterexample)

    def _ask(self) -> Answer:
        """Whether what the solver holds is satisfiable."""
        text = self._solver.to_smt2() if self.cache is not None else ""
        known = self.cache.get(text) if self.cache is not None else None
        if known is not None:
            return Answer(known, self._solver, cached=True)
        answer = _check(self._solver, self.limits.first_rlimit, self.limits.seconds)
        if answer.verdict == "unknown" and answer.reason != "timeout":
            answer = self._ask_again(answer)
        if self.cache is not None and answer.verdict != "unknown":
            self.cache.put(text, answer.verdict)
        return answer

    def _ask_again(self, first: Answer) -> Answer:
        """The same question to the combined solver."""
        second = z3.Solver(ctx=self.group.context)
        second.add(*self._solver.assertions())
        again = _check(second, self.limits.second_rlimit, max(0.0, self.limits.seconds - first.seconds))
        return replace(again, seconds=first.seconds + again.seconds, rlimit=first.rlimit + again.rlimit)

    def _explain(self, goal: Goal, answer: Answer) -> Counterexample | None:
        if goal.explain is None:
            return None
        if answer.cached:  # the answer is known, but its model is not
            answer = _check(self._solver, self.limits.second_rlimit, self.limits.seconds)
        return goal.explain(_minimise(answer.solver, goal))


def _open(blank: Result, answer: Answer, detail: str) -> Result:
    """A result without a verdict."""
    is_time = answer.reason in ("timeout", "canceled")
    status = Status.TIMEOUT if is_time else Status.UNKNOWN
    return replace(blank, status=status, seconds=answer.seconds, rlimit=answer.rlimit, detail=detail)


def _check(solver: z3.Solver, rlimit: int, seconds: float) -> Answer:
    solver.set("rlimit", rlimit)
    solver.set("timeout", max(1, int(seconds * 1000)))
    before, start = _rlimit_count(solver), time.monotonic()
    verdict = str(solver.check())
    elapsed = time.monotonic() - start
    reason = solver.reason_unknown() if verdict == "unknown" else ""
    return Answer(verdict, solver, elapsed, _rlimit_count(solver) - before, reason)


def _rlimit_count(solver: z3.Solver) -> int:
    return next((int(value) for name, value in solver.statistics() if name == "rlimit count"), 0)


def _minimise(solver: z3.Solver, goal: Goal) -> z3.ModelRef:
    """A model with as many of `goal.minimise` zero as one pass of trying gives."""
    model = solver.model()
    solver.set("rlimit", MINIMISE_RLIMIT)
    solver.push()
    for term in goal.minimise:
        zero = z3.Not(term) if z3.is_bool(term) else term == 0
        if not z3.is_true(model.eval(zero, model_completion=True)):
            if solver.check(zero) != z3.sat:
                continue
            model = solver.model()
        solver.add(zero)
    solver.pop()
    return model
