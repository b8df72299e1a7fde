"""Tries mutants on a goal whose proof is hard: one after the other, in terms from which all other mutants are gone.

A conclusion of many parts is taken apart. A mutant in which a part, and all that the proof of the part needs, are the
same terms as in the original, needs no proof; so most of them are done with for most of the parts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import z3

from checks.mutate.choices import Choices, Chooser, choice, conjuncts
from checks.mutate.fates import Fate, Found
from checks.mutate.question import LIMITS
from checks.solvers.terms import TermSolver
from checks.theorem import Goal, Group


@dataclass(slots=True)
class HardTrial:
    """One group on the mutants of these numbers, with the results that `checks.mutate.trial.Trial` has."""

    group: Group
    alive: set[int]
    met: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)

    def run(self) -> Iterator[Found]:
        """What was found, mutant by mutant: killed by a goal, or left open by the solver."""
        choices = Choices(self.group.context)
        for goal in self.group.goals:
            if not goal.is_syntactic:
                yield from self._on(_HardGoal(self.group, goal, choices))

    def _on(self, hard: _HardGoal) -> Iterator[Found]:
        self.met |= hard.met
        suspects = hard.met & self.alive
        if suspects and not hard.is_proved():
            self.unsure |= hard.met
        elif suspects:
            for one in hard.fallen(suspects):
                self.alive.discard(one.number)
                yield one


def parts_of(conclusion: z3.BoolRef) -> list[z3.BoolRef]:
    """Conclusions that together say the same; under a condition, each is under it."""
    if z3.is_and(conclusion):
        return [part for one in conclusion.children() for part in parts_of(one)]
    if z3.is_or(conclusion):
        *others, last = sorted(conclusion.children(), key=z3.is_and)
        if others and z3.is_and(last):
            return [z3.Or(*others, part) for part in parts_of(last)]
    return [conclusion]


@dataclass(slots=True)
class _HardGoal:
    """One goal, with the choices of the mutants in `met` in its terms."""

    group: Group
    goal: Goal
    choices: Choices
    met: set[int] = field(init=False)
    _assumed: list[z3.BoolRef] = field(init=False)
    _chooser: Chooser = field(init=False)
    _parts: list[z3.BoolRef] = field(init=False)
    _original: list[z3.BoolRef] = field(default_factory=list)
    """The assumptions and the parts where no choice is made."""
    _needed: frozenset[int] = frozenset()
    """The places of the assumptions that the proof needs."""

    def __post_init__(self) -> None:
        every = (*self.group.hypotheses, *self.goal.hypotheses)
        self._assumed = [part for one in every for part in conjuncts(one)]
        self._parts = parts_of(self.goal.conclusion)
        self.met = self.choices.met([*self._assumed, *self._parts])
        self._chooser = Chooser(self.choices.context, sorted(self.met))

    def is_proved(self) -> bool:
        """Whether the conclusion follows where no choice is made."""
        self._original = self._simple([*self._assumed, *self._parts], None)
        assumed, parts = self._original[: len(self._assumed)], self._original[len(self._assumed) :]
        solver = z3.SimpleSolver(ctx=self.choices.context)
        solver.set("rlimit", LIMITS.second_rlimit)
        names = [z3.Bool(f"assumption.{i}", self.choices.context) for i in range(len(self._assumed))]
        solver.add(*(z3.Implies(name, term) for name, term in zip(names, assumed, strict=True)))
        solver.add(z3.Not(z3.And(*parts)))
        if solver.check(*names) != z3.unsat:
            return False
        used = {one.get_id() for one in solver.unsat_core()}
        self._needed = frozenset(i for i, name in enumerate(names) if name.get_id() in used)
        return True

    def fallen(self, suspects: set[int]) -> Iterator[Found]:
        """What the goal shows of some mutants."""
        left = set(suspects)
        for number in sorted(suspects):
            start = time.process_time()
            if number not in left or not (changed := self._changed(number)):
                continue
            left.discard(number)
            verdict, model = self._refuted(number, changed)
            if model is not None:
                killed = {number, *self._others(model, left)}
                left -= killed
                seconds = (time.process_time() - start) / len(killed)
                yield from (Found(one, Fate.KILLED, self.goal.id, seconds) for one in sorted(killed))
            elif verdict == "unknown":
                yield Found(number, Fate.UNKNOWN, self.goal.id, time.process_time() - start)

    def _changed(self, number: int) -> list[z3.BoolRef]:
        """The parts, as they are in the mutant, that the original's proof does not prove."""
        every = [*self._assumed, *self._parts]
        about = [i for i, term in enumerate(every) if self.choices.is_met(number, term)]
        made = self._simple([every[i] for i in about], number)
        others = {i for i, term in zip(about, made, strict=True) if not term.eq(self._original[i])}
        first = len(self._assumed)
        is_moved = not self._needed.isdisjoint(others)
        parts = [part for i, part in enumerate(self._parts, first) if is_moved or i in others]
        return [self._chooser.made(part, number) for part in parts]

    def _simple(self, terms: Sequence[z3.BoolRef], number: int | None) -> list[z3.BoolRef]:
        """Terms as they are in a mutant, simplified; all in one call, since they share most of what is in them."""
        context = self.choices.context
        of_all = z3.Function("terms", *[z3.BoolSort(context)] * (len(terms) + 1))
        return list(z3.simplify(self._chooser.made(of_all(*terms), number)).children())

    def _refuted(self, number: int, parts: Sequence[z3.BoolRef]) -> tuple[str, z3.ModelRef | None]:
        assumed = [self._chooser.made(term, number) for term in self._assumed]
        failed = z3.Not(z3.And(*parts)) if len(parts) > 1 else z3.Not(parts[0])
        answer, solver = TermSolver(self.choices.context, []).check([*assumed, failed], LIMITS)
        return answer.verdict, solver.model() if answer.verdict == "sat" else None

    def _others(self, model: z3.ModelRef, numbers: set[int]) -> Iterator[int]:
        """Those of some mutants in which a model refutes the goal too."""
        whole = z3.And(*self._assumed, z3.Not(self.goal.conclusion))
        for number in sorted(self.met & numbers):
            self._choose(model, number, value=True)
            if z3.is_true(model.eval(whole, model_completion=True)):
                yield number
            self._choose(model, number, value=False)

    def _choose(self, model: z3.ModelRef, number: int, *, value: bool) -> None:
        context = self.choices.context
        model.update_value(choice(context, number), z3.BoolVal(value, context))
