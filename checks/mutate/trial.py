"""Tries one group of theorems on many mutants at once.

The group's terms are built once, from the woven program. For each goal one question is asked again and again, "is
there a mutant that refutes it?", until there is none: one unsatisfiable question then says that all others survive.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import z3

from checks.mutate.choices import Choices, conjuncts
from checks.mutate.fates import Fate, Found
from checks.mutate.question import Asker, Question, Reply
from checks.theorem import Goal, Group


@dataclass(slots=True)
class Trial:
    """One group on the mutants of these numbers.

    `met` are those in whose place a term was made. `unsure` are those that a goal may be about which is not proved
    where no choice is made. `satisfied` are those whose assumptions were seen to be satisfiable.
    """

    group: Group
    alive: set[int]
    met: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    satisfied: set[int] = field(default_factory=set)
    _asker: Asker = field(init=False)

    def __post_init__(self) -> None:
        self._asker = Asker(Choices(self.group.context))

    def run(self) -> Iterator[Found]:
        """What was found, mutant by mutant: killed by a goal, left open by the solver, or contradictory."""
        yield from self.refuted()
        yield from self._vacuous()

    def refuted(self) -> Iterator[Found]:
        """What is found by asking whether the goals hold."""
        for goal in self.group.goals:
            if not goal.is_syntactic:
                yield from self._on(goal)

    def _on(self, goal: Goal) -> Iterator[Found]:
        question = self._question((*self.group.hypotheses, *goal.hypotheses, z3.Not(goal.conclusion)))
        if question.met.isdisjoint(self.alive):
            return
        proof = question.original()
        if proof.verdict != "unsat":
            self.unsure |= question.met
            return
        # A mutant whose choice the proof does not ask about survives: the proof is also one of the mutant.
        search = _Search(question, set(proof.core), self.alive & proof.concerned)
        for number, fate, seconds in search.all():
            self.alive.discard(number)
            yield Found(number, fate, goal.id, seconds)

    def _question(self, conditions: Iterable[z3.BoolRef]) -> Question:
        question = self._asker.question([part for one in conditions for part in conjuncts(one)])
        self.met |= question.met
        return question

    def _vacuous(self) -> Iterator[Found]:
        """The mutants in which nothing satisfies the assumptions of the first goal that is no syntactic truth."""
        goal = next((one for one in self.group.goals if not one.is_syntactic), None)
        if goal is None:
            return
        question = self._question(_assumptions(self.group, goal))
        for number in sorted(question.met & self.alive):
            if number in self.satisfied:
                continue
            reply = question.of(number)
            if reply.verdict == "sat":
                left = (question.met & self.alive) - self.satisfied
                self.satisfied |= {number, *question.others(reply, left)}
            elif reply.verdict == "unsat":
                self.alive.discard(number)
                yield Found(number, Fate.VACUOUS, goal.id, 0.0)


def _assumptions(group: Group, goal: Goal) -> Sequence[z3.BoolRef]:
    """What a goal assumes, and that one of its witnesses is possible."""
    possible = [w.condition for w in goal.witnesses] or [z3.BoolVal(True, group.context)]
    return [*group.hypotheses, *goal.hypotheses, z3.Or(*possible) if len(possible) > 1 else possible[0]]


Fell = tuple[int, Fate, float]
"""A mutant, what became of it, and the seconds of processor time that it took to find out."""


@dataclass(slots=True)
class _Search:
    """Looks among `suspects` for the mutants that refute a goal; `used` are the conditions that its proofs need."""

    question: Question
    used: set[int]
    suspects: set[int]

    def all(self) -> Iterator[Fell]:
        """Asks about all at once: whom what is used does not save, all conditions may."""
        while self.suspects:
            start = time.process_time()
            reply = self.question.of_some(self.suspects, self.used)
            if reply.verdict == "unsat":
                return
            if reply.verdict != "sat" or reply.number is None:
                yield from self.each()
                return
            fallen = set(self.question.others(reply, self.suspects))
            if not fallen:
                yield from self._alone(reply.number, start)
                continue
            yield from self._fell(fallen, start)

    def each(self) -> Iterator[Fell]:
        """Asks about one after the other."""
        for number in sorted(self.suspects):
            if number in self.suspects:
                yield from self._alone(number, time.process_time())

    def _alone(self, number: int, start: float) -> Iterator[Fell]:
        reply = self.question.of(number)
        if reply.verdict == "unsat":
            self.used |= reply.core
            self.suspects.discard(number)
        elif reply.verdict == "sat":
            yield from self._fell({number, *self._others(reply, number)}, start)
        else:
            self.suspects.discard(number)
            yield number, Fate.UNKNOWN, time.process_time() - start

    def _others(self, reply: Reply, number: int) -> Iterator[int]:
        return self.question.others(reply, self.suspects - {number})

    def _fell(self, fallen: set[int], start: float) -> Iterator[Fell]:
        self.suspects -= fallen
        seconds = (time.process_time() - start) / len(fallen)
        yield from ((number, Fate.KILLED, seconds) for number in sorted(fallen))
