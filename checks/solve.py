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

from checks.theorem import Answers, Counterexample, Goal, Group, Result, Status, Witness

FIRST_RLIMIT = 3_000_000
SECOND_RLIMIT = 60_000_000
MINIMISE_RLIMIT = 300_000
MINIMISE_SECONDS = 1.0


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
    """The answer to one question: `verdict` is sat, unsat or unknown."""

    verdict: str
    seconds: float = 0.0
    rlimit: int = 0
    reason: str = ""
    cached: bool = False
    counterexample: Counterexample | None = None


@dataclass(slots=True)
class GroupRunner:
    """Asks the questions of one group; its hypotheses are asserted once.

    `explain_answers` asks for a counterexample of goals with answers too: a witness of the answer.
    """

    group: Group
    limits: Limits
    cache: Cache | None = None
    explain_answers: bool = False
    _solver: z3.Solver = field(init=False)
    _base: str = field(init=False)
    _free: GroupRunner | None = None
    _witnesses: dict[tuple[int, ...], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._solver = z3.SimpleSolver(ctx=self.group.context)
        self._solver.add(*self.group.hypotheses)
        self._base = self._solver.to_smt2() if self.cache is not None else ""

    def run(self) -> Iterator[Result]:
        """Yields a result for each goal, as it comes."""
        for goal in self.group.goals:
            yield self.prove(goal)

    def prove(self, goal: Goal) -> Result:
        """The verdict on one goal: its assumptions first, then the goal itself."""
        if goal.answers is not None and self.group.hypotheses:
            return self._without_hypotheses().prove(goal)
        blank = Result(goal.id, self.group.name, Status.PROVED, 0.0)
        witnessed = self._witness(goal, blank)
        if witnessed.status is not Status.PROVED:
            return witnessed
        if goal.answers is not None:
            return self._answer(goal, goal.answers, witnessed)
        return replace(witnessed, syntactic=True) if goal.is_syntactic else self._decide(goal, witnessed)

    def _answer(self, goal: Goal, answers: Answers, witnessed: Result) -> Result:
        """The answer to a question, conjunct by conjunct: one that fails answers it."""
        if goal.is_syntactic:
            return replace(witnessed, syntactic=True, witness=answers.holds)
        total = witnessed
        for part in goal.conclusion.children() if z3.is_and(goal.conclusion) else (goal.conclusion,):
            one = self._decide(replace(goal, conclusion=part), witnessed)
            total = replace(
                one, seconds=total.seconds + one.seconds, rlimit=total.rlimit + one.rlimit, cached=one.cached
            )
            if one.status is not Status.PROVED:
                break
        if total.status is Status.REFUTED:
            return replace(total, status=Status.PROVED, witness=answers.fails)
        return replace(total, witness=answers.holds) if total.status is Status.PROVED else total

    def _without_hypotheses(self) -> GroupRunner:
        """A runner of the group's questions, which do not have its hypotheses."""
        if self._free is None:
            self._free = replace(self, group=replace(self.group, hypotheses=()), _witnesses={})
        return self._free

    def _witness(self, goal: Goal, blank: Result) -> Result:
        """PROVED with the name of the first satisfiable witness, VACUOUS if there is none."""
        always = Witness("satisfiable", z3.BoolVal(True, self.group.context))
        for witness in goal.witnesses or (always,):
            answer = self._witnessed((*goal.hypotheses, witness.condition), witness.hints)
            if answer.verdict == "sat":
                return replace(blank, witness=witness.name)
            if answer.verdict == "unknown":
                return _open(blank, answer, f"no witness found: {witness.name}")
        return replace(blank, status=Status.VACUOUS, detail="nothing satisfies the assumptions")

    def _witnessed(self, conditions: tuple[z3.BoolRef, ...], hints: tuple[z3.BoolRef, ...]) -> Answer:
        """Whether conditions can hold; goals of one form share their witnesses, so the answer is remembered."""
        at = tuple(condition.get_id() for condition in conditions)
        if at not in self._witnesses:
            self._witnesses[at] = self._satisfiable(conditions, hints)
        return self._witnesses[at]

    def _satisfiable(self, conditions: tuple[z3.BoolRef, ...], hints: tuple[z3.BoolRef, ...]) -> Answer:
        """First with the hints, which may contradict the conditions, then without."""
        if hints:
            hinted = self._ask((*conditions, *hints), replace(self.limits, second_rlimit=0))
            if hinted.verdict == "sat":
                return hinted
        return self._ask(conditions, self.limits)

    def _decide(self, goal: Goal, witnessed: Result) -> Result:
        is_explained = goal.answers is None or self.explain_answers
        conditions = (*goal.hypotheses, z3.Not(goal.conclusion))
        answer = self._ask(conditions, self.limits, goal if is_explained else None)
        if answer.verdict == "unknown":
            return _open(witnessed, answer, answer.reason)
        decided = replace(witnessed, seconds=answer.seconds, rlimit=answer.rlimit, cached=answer.cached)
        if answer.verdict == "unsat":
            return decided
        counterexample = answer.counterexample
        detail = counterexample.summary if counterexample is not None else "the solver found a counterexample"
        return replace(decided, status=Status.REFUTED, detail=detail, counterexample=counterexample)

    def _ask(self, conditions: Sequence[z3.BoolRef], limits: Limits, explained: Goal | None = None) -> Answer:
        """Whether hypotheses and conditions are satisfiable together; if so, `explained` says what that means."""
        self._solver.push()
        try:
            self._solver.add(*conditions)
            return self._asked(conditions, limits, explained)
        finally:
            self._solver.pop()

    def _asked(self, conditions: Sequence[z3.BoolRef], limits: Limits, explained: Goal | None) -> Answer:
        text = self._text(conditions) if self.cache is not None else ""
        known = self.cache.get(text) if self.cache is not None else None
        if known is not None and (known == "unsat" or explained is None):
            return Answer(known, cached=True)
        solver = self._solver
        answer = _check(solver, limits.first_rlimit, limits.seconds)
        if answer.verdict == "unknown" and answer.reason != "timeout" and limits.second_rlimit:
            solver = z3.Solver(ctx=self.group.context)
            solver.add(*self._solver.assertions())
            again = _check(solver, limits.second_rlimit, max(0.0, limits.seconds - answer.seconds))
            answer = replace(
                again, seconds=answer.seconds + again.seconds, rlimit=answer.rlimit + again.rlimit
            )
        if self.cache is not None and answer.verdict != "unknown":
            self.cache.put(text, answer.verdict)
        if answer.verdict == "sat" and explained is not None and explained.explain is not None:
            return replace(answer, counterexample=explained.explain(_minimise(solver, explained)))
        return answer

    def _text(self, conditions: Sequence[z3.BoolRef]) -> str:
        """The question as SMT-LIB text: that of the hypotheses, printed once, and of the conditions."""
        own = z3.SimpleSolver(ctx=self.group.context)
        own.add(*conditions)
        return f"{self._base}\n{own.to_smt2()}"


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
    return Answer(verdict, elapsed, _rlimit_count(solver) - before, reason)


def _rlimit_count(solver: z3.Solver) -> int:
    return next((int(value) for name, value in solver.statistics() if name == "rlimit count"), 0)


def _minimise(solver: z3.Solver, goal: Goal) -> z3.ModelRef:
    """A model in which as much of `goal.minimise` is zero as some trying gives."""
    small = _Smaller(solver, solver.model())
    solver.set("rlimit", MINIMISE_RLIMIT)
    solver.push()
    for term in goal.minimise() if goal.minimise is not None else ():
        if z3.is_bool(term):
            small.hold(z3.Not(term))
        else:
            small.clear(term, term.size() - 1, 0)
    solver.pop()
    return small.model


@dataclass(slots=True)
class _Smaller:
    """A model, made smaller step by step."""

    solver: z3.Solver
    model: z3.ModelRef
    deadline: float = field(default_factory=lambda: time.monotonic() + MINIMISE_SECONDS)

    def hold(self, condition: z3.BoolRef) -> bool:
        """Whether the condition can hold with all that does already; if so it does from now on."""
        if not z3.is_true(self.model.eval(condition, model_completion=True)):
            if time.monotonic() > self.deadline or self.solver.check(condition) != z3.sat:
                return False
            self.model = self.solver.model()
        self.solver.add(condition)
        return True

    def clear(self, term: z3.BitVecRef, high: int, low: int) -> None:
        """Makes the bits `high` to `low` zero, or else as many of them as can be."""
        if not self.hold(z3.Extract(high, low, term) == 0) and high > low:
            middle = (high + low) // 2
            self.clear(term, high, middle + 1)
            self.clear(term, middle, low)
