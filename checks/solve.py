"""Asks solvers the questions of one group: are the goals' assumptions satisfiable, and can a goal be refuted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import z3

from checks.solvers.answer import Answer, Limits
from checks.solvers.minimise import minimised
from checks.solvers.terms import TermSolver, script
from checks.solvers.text import Z3, TextSolver, text_solver
from checks.theorem import Answers, Counterexample, Goal, Group, Result, Status, Witness

__all__ = ["Cache", "GroupRunner", "Limits"]


class Cache(Protocol):
    """Remembers solvers' answers by the digests of the questions' texts."""

    def answer(self, solver: str, question: str) -> str | None:
        """`sat` or `unsat` if that solver answered the question before."""
        ...

    def remember_answer(self, solver: str, question: str, verdict: str) -> None:
        """Remembers an answer."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    """Whether conditions can hold together with the group's hypotheses; of a witness, they are likely to."""

    conditions: tuple[z3.BoolRef, ...]
    limits: Limits
    is_witness: bool = False


@dataclass(slots=True)
class GroupRunner:
    """Asks the questions of one group.  `solvers` are the names of those to ask, whose verdicts must agree.

    `explain_answers` asks for a counterexample of goals with answers too: a witness of the answer. `stronger` are
    models of more than the group's hypotheses.
    """

    group: Group
    limits: Limits
    cache: Cache | None = None
    solvers: Sequence[str] = (Z3,)
    explain_answers: bool = False
    stronger: Sequence[z3.ModelRef] = ()
    _free: GroupRunner | None = None
    _z3: TermSolver = field(init=False)
    _others: dict[str, TextSolver] = field(init=False)
    _witnesses: dict[tuple[int, ...], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        group = self.group
        self._z3 = TermSolver(group.context, group.hypotheses, self.stronger, is_large=group.is_large)
        self._others = {name: text_solver(name) for name in self.solvers if name != Z3}

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
        if goal.is_syntactic:
            return replace(witnessed, syntactic=True)
        return self._decide_parts(goal, witnessed) if goal.is_split else self._decide(goal, witnessed)

    def _without_hypotheses(self) -> GroupRunner:
        """A runner of the group's questions, which do not have its hypotheses."""
        if self._free is None:
            free = replace(self.group, hypotheses=())
            self._free = replace(self, group=free, _witnesses={}, stronger=self._z3.models)
        return self._free

    def _answer(self, goal: Goal, answers: Answers, witnessed: Result) -> Result:
        """The answer to a question: a conjunct that fails answers it."""
        if goal.is_syntactic:
            return replace(witnessed, syntactic=True, witness=answers.holds)
        last = self._decide_parts(goal, witnessed)
        if last.status is Status.REFUTED:  # the state that refutes it satisfies the assumptions too
            found = last.refutable.rsplit(" ", maxsplit=1)[-1]
            return replace(last, status=Status.PROVED, witness=answers.fails, satisfiable=found, refutable="")
        return replace(last, witness=answers.holds) if last.status is Status.PROVED else last

    def _decide_parts(self, goal: Goal, witnessed: Result) -> Result:
        """The verdict on a goal conjunct by conjunct, up to the first that is not proved."""
        parts = goal.conclusion.children() if z3.is_and(goal.conclusion) else (goal.conclusion,)
        decided: list[Result] = []
        while len(decided) < len(parts) and all(one.status is Status.PROVED for one in decided):
            decided.append(self._decide(replace(goal, conclusion=parts[len(decided)]), witnessed))
        return replace(
            decided[-1],
            seconds=sum(one.seconds for one in decided),
            rlimit=sum(one.rlimit for one in decided),
            refutable=" ".join(one.refutable for one in decided),
        )

    def _witness(self, goal: Goal, blank: Result) -> Result:
        """PROVED with the name of the first satisfiable witness, VACUOUS if there is none."""
        always = Witness("satisfiable", z3.BoolVal(True, self.group.context))
        for witness in goal.witnesses or (always,):
            answer = self._witnessed((*goal.hypotheses, witness.condition), witness.hints)
            if answer.verdict == "sat":
                return replace(blank, witness=witness.name, satisfiable=answer.question)
            if answer.verdict != "unsat":
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
            hinted = self._ask(
                _Question((*conditions, *hints), replace(self.limits, second_rlimit=0), is_witness=True)
            )
            if hinted.verdict in ("sat", "disagreement"):
                return hinted
        return self._ask(_Question(conditions, self.limits, is_witness=True))

    def _decide(self, goal: Goal, witnessed: Result) -> Result:
        question = _Question((*goal.hypotheses, z3.Not(goal.conclusion)), self.limits)
        answer = self._ask(question)
        if answer.verdict not in ("sat", "unsat"):
            return _open(witnessed, answer, answer.reason)
        spent = replace(witnessed, seconds=answer.seconds, rlimit=answer.rlimit)
        decided = replace(spent, cached=answer.cached, refutable=answer.question)
        if answer.verdict == "unsat":
            return decided
        found = self._explained(question, goal)
        detail = found.summary if found is not None else "the solver found a counterexample"
        return replace(decided, status=Status.REFUTED, detail=detail, counterexample=found)

    def _explained(self, question: _Question, goal: Goal) -> Counterexample | None:
        """What a model of z3's, made small, says of a refuted goal; None if z3 finds none, or nobody asks."""
        if goal.explain is None or (goal.answers is not None and not self.explain_answers):
            return None
        answer, solver = self._z3.check(question.conditions, question.limits)
        try:
            if answer.verdict != "sat":
                return None
            return goal.explain(minimised(solver, goal.minimise() if goal.minimise is not None else ()))
        finally:
            self._z3.release()

    def _ask(self, question: _Question) -> Answer:
        """The verdict on which all solvers agree."""
        text = script((*self.group.hypotheses, *question.conditions)) if self._needs_text() else ""
        digest = hashlib.sha256(text.encode()).hexdigest() if text else ""
        answers = {name: self._asked(name, question, text, digest) for name in self.solvers}
        return replace(_agreed(answers), question=digest)

    def _needs_text(self) -> bool:
        return self.cache is not None or bool(self._others)

    def _asked(self, name: str, question: _Question, text: str, digest: str) -> Answer:
        """One solver's verdict, which it may have given before."""
        solver = versioned(name)
        known = self.cache.answer(solver, digest) if self.cache is not None else None
        if known is not None:
            return Answer(known, cached=True)
        if name in self._others:
            answer = self._others[name].check(text, question.limits.seconds)
        elif question.is_witness:
            answer = self._z3.is_satisfiable(question.conditions, question.limits)
        else:
            answer, _ = self._z3.check(question.conditions, question.limits)
            self._z3.release()
        if self.cache is not None and answer.verdict != "unknown":
            self.cache.remember_answer(solver, digest, answer.verdict)
        return answer


def versioned(solver: str) -> str:
    """The name by which a solver's answers are remembered."""
    return f"{Z3} {z3.get_full_version()}" if solver == Z3 else text_solver(solver).name


def _agreed(answers: Mapping[str, Answer]) -> Answer:
    """One answer for those of several solvers: what they say, unknown if one does not know."""
    verdicts = {answer.verdict for answer in answers.values()}
    first = next(iter(answers.values()))
    if len(verdicts) == 1:
        return replace(first, seconds=sum(answer.seconds for answer in answers.values()))
    if {"sat", "unsat"} <= verdicts:
        said = ", ".join(f"{name} says {answer.verdict}" for name, answer in answers.items())
        return Answer("disagreement", reason=said)
    name, answer = next((n, a) for n, a in answers.items() if a.verdict == "unknown")
    return replace(answer, reason=answer.reason if answer.is_timeout else f"{name}: {answer.reason}")


def _open(blank: Result, answer: Answer, detail: str) -> Result:
    """A result without a verdict."""
    if answer.verdict == "disagreement":
        return replace(blank, status=Status.DISAGREEMENT, detail=answer.reason)
    status = Status.TIMEOUT if answer.is_timeout else Status.UNKNOWN
    return replace(blank, status=status, seconds=answer.seconds, rlimit=answer.rlimit, detail=detail)
