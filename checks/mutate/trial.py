"""Tries one group of theorems on many mutants at once.

The group's terms are built once, from the woven program. For each goal one question is asked again and again, "is
there a mutant that refutes it?", until there is none: one unsatisfiable question then says that all others survive.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import z3

from checks.mutate.fates import Fate, Found
from checks.mutate.weave import SITE
from checks.solvers.answer import Limits
from checks.solvers.terms import TermSolver, script
from checks.theorem import Goal, Group

LIMITS = Limits(seconds=20.0)
"""For the question about one mutant."""

MANY_RLIMIT = 3_000_000
"""For the question about all mutants at once; what it leaves open is asked of each."""

_CHOICE = re.compile(rf"undefined!{re.escape(SITE)}(\d+)")
_NUMBER_WIDTH = 16


@dataclass(slots=True)
class Trial:
    """One group on the mutants of these numbers.

    `met` are those in whose place a term was made. `unsure` are those that a goal may be about which is not proved
    where no choice is made. `satisfied` are those whose assumptions were seen to be satisfiable, here or elsewhere.
    With `one_by_one` no question is about several mutants, which pays where single proofs are hard.
    """

    group: Group
    alive: set[int]
    met: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    satisfied: set[int] = field(default_factory=set)
    one_by_one: bool = False

    def run(self) -> Iterator[Found]:
        """What was found, mutant by mutant: killed by a goal, or left open by the solver."""
        for goal in self.group.goals:
            if not goal.is_syntactic:
                yield from self._on(goal)
        if not self.one_by_one:
            yield from self._vacuous()

    def _on(self, goal: Goal) -> Iterator[Found]:
        every = (*self.group.hypotheses, *goal.hypotheses, z3.Not(goal.conclusion))
        at_hand = met_in(every)
        self.met |= at_hand
        if at_hand.isdisjoint(self.alive):
            return
        parts = Parts([part for one in every for part in conjuncts(one)], self.group.context)
        used = parts.core(None)
        if used is None and parts.holds(None) == "unsat":
            used = parts.terms
        if used is None:
            self.unsure |= at_hand
            return
        # A mutant that is not in what the proof uses survives: the proof is also one of the mutant.
        if self.one_by_one:
            for number in sorted(met_in(used) & self.alive):
                yield from self._single(goal, parts, number)
            return
        suspects = OneOf(self.group.context, met_in(every))
        suspects.add(used)
        for number, seconds in suspects.members(met_in(used) & self.alive):
            start = time.monotonic()
            proof = parts.core(number)
            if proof is not None:
                suspects.add(proof)  # another proof, which may be one of other mutants as well
                continue
            for one in self._single(goal, parts, number):
                yield replace(one, seconds=seconds + time.monotonic() - start)
        for number in suspects.undecided:
            yield from self._single(goal, parts, number)

    def _single(self, goal: Goal, parts: Parts, number: int) -> Iterator[Found]:
        """One mutant by itself."""
        start = time.monotonic()
        verdict = parts.holds(number)
        if verdict != "unsat":
            self.alive.discard(number)
            fate = Fate.KILLED if verdict == "sat" else Fate.UNKNOWN
            yield Found(number, fate, goal.id, time.monotonic() - start)

    def _vacuous(self) -> Iterator[Found]:
        """The mutants in which nothing satisfies the assumptions of the first goal that is no syntactic truth."""
        goal = next((one for one in self.group.goals if not one.is_syntactic), None)
        if goal is None:
            return
        possible = [w.condition for w in goal.witnesses]
        conditions = [*self.group.hypotheses, *goal.hypotheses]
        conditions += [z3.Or(*possible) if len(possible) > 1 else possible[0]] if possible else []
        met = met_in(conditions)
        self.met |= met
        satisfied = OneOf(self.group.context, met)
        satisfied.add(conditions)
        left = (met & self.alive) - self.satisfied
        self.satisfied |= {number for number, _ in satisfied.members(left)}
        for number in left - self.satisfied - satisfied.undecided:
            self.alive.discard(number)
            yield Found(number, Fate.VACUOUS, goal.id, 0.0)


def choice(context: z3.Context, number: int) -> z3.BoolRef:
    """The choice of a mutant as a term."""
    return z3.Bool(f"undefined!{SITE}{number}", context)


def met_in(conditions: Sequence[z3.BoolRef]) -> set[int]:
    """The mutants whose choices occur."""
    return {int(number) for number in _CHOICE.findall(script(conditions))} if conditions else set()


def conjuncts(term: z3.BoolRef) -> Iterator[z3.BoolRef]:
    """The terms of which it is the conjunction."""
    if z3.is_and(term):
        for one in term.children():
            yield from conjuncts(one)
        return
    if z3.is_not(term):
        inner = term.arg(0)
        if z3.is_not(inner):
            yield from conjuncts(inner.arg(0))
            return
        if z3.is_or(inner):
            for one in inner.children():
                yield from conjuncts(z3.Not(one))
            return
        if z3.is_implies(inner):
            yield from conjuncts(inner.arg(0))
            yield from conjuncts(z3.Not(inner.arg(1)))
            return
    yield term


@dataclass(slots=True)
class Parts:
    """The assumptions of a goal and its negation, one by one."""

    terms: list[z3.BoolRef]
    context: z3.Context
    _choices: list[z3.BoolRef] = field(init=False)

    def __post_init__(self) -> None:
        self._choices = [choice(self.context, n) for n in sorted(met_in(self.terms))]

    def fixed(self, number: int | None) -> list[z3.BoolRef]:
        """What makes the choice of the mutant of that number, or of none."""
        own = "" if number is None else str(choice(self.context, number))
        return [one if str(one) == own else z3.Not(one) for one in self._choices]

    def holds(self, number: int | None) -> str:
        """Whether all are satisfiable together in the mutant, or in the original: sat, unsat or unknown."""
        solver = TermSolver(self.context, self.fixed(number))
        return solver.check(self.terms, LIMITS)[0].verdict

    def core(self, number: int | None) -> list[z3.BoolRef] | None:
        """Those that contradict each other in the mutant, or in the original; None if none are found."""
        solver = z3.SimpleSolver(ctx=self.context)
        solver.set("timeout", 60_000)
        solver.set("rlimit", LIMITS.first_rlimit)
        solver.add(*self.fixed(number))
        names = [z3.Bool(f"part.{i}", self.context) for i in range(len(self.terms))]
        for name, term in zip(names, self.terms, strict=True):
            solver.add(z3.Implies(name, term))
        if solver.check(*names) != z3.unsat:
            return None
        used = {str(one) for one in solver.unsat_core()}
        return [term for name, term in zip(names, self.terms, strict=True) if str(name) in used]


@dataclass(slots=True)
class OneOf:
    """Conditions with the choices of mutants in them, of which exactly one is made."""

    context: z3.Context
    met: set[int]
    undecided: set[int] = field(default_factory=set)
    _solver: z3.Solver = field(init=False)
    _fault: z3.BitVecRef = field(init=False)
    _added: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._solver = z3.SimpleSolver(ctx=self.context)
        self._solver.set("rlimit", MANY_RLIMIT)
        self._solver.set("timeout", 60_000)
        self._fault = z3.BitVec("the fault", _NUMBER_WIDTH, self.context)
        self._solver.add(*(choice(self.context, n) == (self._fault == n) for n in sorted(self.met)))

    def add(self, conditions: Sequence[z3.BoolRef]) -> None:
        """Adds conditions, each once."""
        new = [one for one in conditions if one.get_id() not in self._added]
        self._added |= {one.get_id() for one in new}
        self._solver.add(*new)

    def members(self, wanted: set[int]) -> Iterator[tuple[int, float]]:
        """(number, seconds) of the mutants among these that satisfy the conditions."""
        left = set(wanted)
        while left:
            self._solver.push()
            among = [self._fault == n for n in sorted(left)]
            self._solver.add(z3.Or(*among) if len(among) > 1 else among[0])
            start = time.monotonic()
            verdict = self._solver.check()
            seconds = time.monotonic() - start
            model = self._solver.model() if verdict == z3.sat else None
            self._solver.pop()
            if model is None:
                self.undecided = left if verdict == z3.unknown else set()
                return
            number = model.eval(self._fault, model_completion=True).as_long()
            left.discard(number)
            yield number, seconds
