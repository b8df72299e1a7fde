"""Tries all groups of theorems on many mutants, in several processes, until each has a verdict."""

from __future__ import annotations

import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TypeAlias

import grammar
from checks.mutate.explanations import explanations
from checks.mutate.fates import Fate, Found, Verdict
from checks.mutate.judge import Judge, Tried
from checks.mutate.memory import Memory
from checks.mutate.operators import kind_of
from checks.mutate.places import Mutant
from checks.mutate.scope import candidates
from checks.mutate.survivors import Survivors
from checks.mutate.targets import Target, Targets
from checks.mutate.tested.listed import listed_tests
from checks.mutate.tested.pool import pool
from checks.mutate.tested.search import Search
from grammar import ir

Finished: TypeAlias = "Future[Tried]"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a campaign is made from in each process: the specification, and the names of families (none is all).

    `tests` is the folder of the tests that run on mutants which no theorem notices, None if none do; with
    `finds_tests` those that are not listed run too.
    """

    specification: Path | None
    families: Sequence[str] = ()
    tests: Path | None = None
    finds_tests: bool = False


class Campaign:
    """The mutants of one program, by number, and the theorems that could notice them."""

    def __init__(self, program: ir.Program, families: Sequence[str] = ()) -> None:
        self.program = program
        self.mutants: Mapping[int, Mutant] = dict(enumerate(candidates(program)))
        self.numbers = {mutant: number for number, mutant in self.mutants.items()}
        self.judge = Judge(program, Targets(program, families), self.mutants)
        self.targets = list(self.judge.targets.all())
        self.explanations = explanations()
        self.is_whole = not families

    def first(self) -> frozenset[int]:
        """The first mutant of each operator in each item: what is judged if nothing else is asked for."""
        found: dict[tuple[str, str, str], int] = {}
        for number, mutant in self.mutants.items():
            found.setdefault((mutant.kind, mutant.name, kind_of(mutant.operator)), number)
        return frozenset(found.values())

    def sample(self, size: int | None, seed: int, items: Sequence[str] = ()) -> frozenset[int]:
        """So many of the mutants, or all, of these items, or all."""
        among = [n for n, mutant in self.mutants.items() if mutant.name in items or not items]
        if size is None or size >= len(among):
            return frozenset(among)
        return frozenset(Random(seed).sample(among, size))

    def survivors(self, memory: Memory | None = None) -> Survivors:
        """What judges the mutants that no theorem notices."""
        return Survivors(self.program, self.mutants, self.explanations, memory, self.is_whole)


@dataclass(slots=True)
class Run:
    """One run of a campaign over some mutants: `alive` are those without a verdict so far.

    First come those that are shown to do what the original does, then the groups, then what is left: what can be
    proved of it, then the tests.
    """

    campaign: Campaign
    alive: set[int]
    setup: Setup
    memory: Memory | None = None
    groups: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    listed: dict[str, list[str]] = field(default_factory=listed_tests)

    def verdicts(self, jobs: int) -> Iterator[Verdict]:
        """The verdicts as they come."""
        survivors = self.campaign.survivors(self.memory)
        for verdict in survivors.equivalent(frozenset(self.alive)):
            self.alive.discard(self.campaign.numbers[verdict.mutant])
            yield verdict
        attempts = self._here() if jobs == 1 else self._in_processes(jobs)
        for target, tried in attempts:
            yield from self._settled(target, tried)
        left = list(survivors.left({number: self.groups[number] for number in sorted(self.alive)}))
        yield from (verdict for verdict in left if verdict.fate is Fate.EQUIVALENT)
        open_ = {self.campaign.numbers[v.mutant]: v for v in left if v.fate is not Fate.EQUIVALENT}
        yield from self._tested(open_, jobs)

    def _tested(self, verdicts: Mapping[int, Verdict], jobs: int) -> Iterator[Verdict]:
        """The verdicts on what no theorem notices: that a test does, or else what they were."""
        if self.setup.tests is None or not verdicts:
            yield from verdicts.values()
            return
        with pool(self.setup.specification, self.setup.tests, jobs) as processes:
            search = Search(self.campaign.program, self.campaign.mutants, self.listed, processes)
            for number, found in search.all(verdicts, finds_more=self.setup.finds_tests):
                verdict = verdicts[number]
                yield (
                    verdict
                    if found is None
                    else replace(verdict, fate=Fate.TESTED, by=found.test, seconds=found.seconds)
                )

    def _settled(self, target: Target, tried: Tried) -> Iterator[Verdict]:
        for number in tried.met:
            self.groups[number].append(target.outline.group)
        for one in tried.found:
            if one.number in self.alive:
                self.alive.discard(one.number)
                yield self._verdict(one)

    def _verdict(self, found: Found) -> Verdict:
        mutant, groups = self.campaign.mutants[found.number], len(self.groups[found.number])
        return Verdict(mutant, found.fate, found.by, found.seconds, groups)

    def _here(self) -> Iterator[tuple[Target, Tried]]:
        for target in self.campaign.targets:
            concerned = self.campaign.judge.concerned(target, frozenset(self.alive))
            if concerned:
                known = self._recall(target, concerned)
                yield (
                    target,
                    known
                    or self._remember(target, concerned, self.campaign.judge.attempt(target, concerned)),
                )

    def _in_processes(self, jobs: int) -> Iterator[tuple[Target, Tried]]:
        """The next group begins as soon as a process is free, with the mutants that are then alive."""
        waiting = list(reversed(self.campaign.targets))
        running: dict[Finished, tuple[Target, frozenset[int]]] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, _start_worker, (self.setup,)) as pool:
            while waiting or running:
                while waiting and len(running) < jobs:
                    target = waiting.pop()
                    concerned = self.campaign.judge.concerned(target, frozenset(self.alive))
                    known = self._recall(target, concerned)
                    if known is not None:
                        yield target, known
                    elif concerned:
                        place = self.campaign.targets.index(target)
                        running[pool.submit(_attempt, place, concerned)] = target, concerned
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running[future][0], self._remember(*running.pop(future), future.result())

    def _recall(self, target: Target, concerned: frozenset[int]) -> Tried | None:
        return self.memory.tried(target, concerned) if self.memory is not None else None

    def _remember(self, target: Target, concerned: frozenset[int], tried: Tried) -> Tried:
        if self.memory is not None:
            self.memory.remember(target, concerned, tried)
        return tried


_workers: list[Campaign] = []
"""The campaign of this process, if it is a worker."""


def _start_worker(setup: Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent to handle
    _workers.append(Campaign(grammar.load(setup.specification), setup.families))


def _attempt(place: int, concerned: frozenset[int]) -> Tried:
    campaign = _workers[0]
    return campaign.judge.attempt(campaign.targets[place], concerned)
