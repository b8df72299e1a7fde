"""Tries a group of theorems on mutants: on most of them at once, on some one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import z3

from checks.extract import extract
from checks.mutate.fates import Fate, Found
from checks.mutate.hard import HardTrial
from checks.mutate.places import Mutant, mutated
from checks.mutate.question import LIMITS
from checks.mutate.targets import Target, Targets, is_among, items_of
from checks.mutate.trial import Trial
from checks.mutate.weave import CANNOT_BUILD, Weaver
from checks.solve import GroupRunner
from checks.theorem import Goal, Group, Status
from grammar import ir


@dataclass(frozen=True, slots=True)
class Tried:
    """What a group showed: of some mutants something, `met` are all in whose place it looked."""

    found: tuple[Found, ...]
    met: frozenset[int]


@dataclass(slots=True)
class Judge:
    """Tries groups of theorems about one program on its mutants, by number."""

    program: ir.Program
    targets: Targets
    mutants: Mapping[int, Mutant]
    _weaver: Weaver = field(init=False)

    def __post_init__(self) -> None:
        self._weaver = Weaver(self.program)

    def concerned(self, target: Target, alive: frozenset[int]) -> frozenset[int]:
        """The mutants that the group's terms could be made from."""
        items = items_of(extract(self.program, target.outline.roots)) - target.untouched
        return frozenset(n for n in alive if is_among(self.mutants[n], items))

    def attempt(self, target: Target, concerned: frozenset[int]) -> Tried:
        """Tries a group on mutants."""
        alone = sorted(n for n in concerned if is_among(self.mutants[n], target.alone))
        woven = concerned.difference(alone)
        found: list[Found] = []
        met = set(alone)
        some, looked_at = self._woven(target, woven)
        found += some
        met |= looked_at
        for number in alone:
            found += self.alone(target, number)
        return Tried(tuple(found), frozenset(met))

    def _woven(self, target: Target, together: frozenset[int]) -> tuple[list[Found], set[int]]:
        """Tries mutants together; if no terms can be made, half of the items at a time, or those of one one by one."""
        if not together:
            return [], set()
        try:
            program = self._weaver.woven({n: self.mutants[n] for n in sorted(together)})
            group = self.targets.build(program, target)
        except CANNOT_BUILD:
            halves = self._halves(together)
            if not halves:
                return [f for n in sorted(together) for f in self.alone(target, n)], set(together)
            results = [self._woven(target, half) for half in halves]
            return [f for found, _ in results for f in found], {n for _, met in results for n in met}
        trial = HardTrial(group, set(together)) if target.is_hard else Trial(group, set(together))
        found = list(trial.run())
        for number in sorted(trial.unsure & trial.alive):
            found += self.alone(target, number)
        return found, trial.met

    def _halves(self, together: frozenset[int]) -> list[frozenset[int]]:
        """The mutants of the first half of the items, and those of the others; none if they are of one item."""
        items = sorted({(self.mutants[n].kind, self.mutants[n].name) for n in together})
        first = frozenset(items[: len(items) // 2])
        half = frozenset(n for n in together if is_among(self.mutants[n], first))
        return [half, together - half] if first else []

    def alone(self, target: Target, number: int) -> list[Found]:
        """What the group shows of one mutant, in a program of its own: the first goal that fails, if any."""
        start = time.monotonic()
        try:
            group = self.targets.build(mutated(self.program, self.mutants[number]), target)
        except CANNOT_BUILD as error:
            return [self._rejected(target, number, error)]
        failures = (Found(number, fate, by, time.monotonic() - start) for fate, by in _failures(group))
        found: list[Found] = []
        for one in failures:
            if one.fate.is_caught:
                return [one]
            found.append(one)
        return found[:1]

    def _rejected(self, target: Target, number: int, error: BaseException) -> Found:
        return Found(number, Fate.REJECTED, f"{target.outline.group}: {type(error).__name__}: {error}", 0.0)


def _failures(group: Group) -> Iterator[tuple[Fate, str]]:
    """The goals that are not proved: first what is refuted, then what is vacuous."""
    hasty = tuple(replace(goal, witnesses=(), minimise=None, explain=None) for goal in group.goals)
    yield from _results(replace(group, goals=hasty))
    assumed = tuple(_assumptions_of(goal, group.context) for goal in group.goals)
    yield from _results(replace(group, goals=assumed))


def _assumptions_of(goal: Goal, context: z3.Context) -> Goal:
    """A goal that only its assumptions can fail."""
    return replace(goal, conclusion=z3.BoolVal(True, context))


def _results(group: Group) -> Iterator[tuple[Fate, str]]:
    fates = {Status.REFUTED: Fate.KILLED, Status.VACUOUS: Fate.VACUOUS}
    for result in GroupRunner(group, LIMITS).run():
        if result.status is not Status.PROVED:
            yield fates.get(result.status, Fate.UNKNOWN), result.id
