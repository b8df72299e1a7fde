"""A campaign: replays the corpus, then draws cases in batches until time or their number is used up.

Each batch has a seed of its own, made of the campaign's and its number, so that a campaign can go on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Protocol

from checks.case import Case
from checks.fuzz.compare import Comparison, Tally
from checks.fuzz.corpus import Corpus
from checks.fuzz.coverage import Coverage
from checks.fuzz.difference import Divergence
from checks.fuzz.full_speed import FullSpeed
from checks.fuzz.program_comparison import PROGRAM, ProgramRuns
from checks.fuzz.shrink import shrunk
from refmodel.vectors import CaseError

BATCH = 256  # cases

Progress = Callable[["Outcome", Coverage], None]


class Source(Protocol):
    """What draws cases: `Generator`, `Programs`."""

    def batch(self, source: Random, count: int) -> list[Case]:
        """Cases that start from one base."""
        ...

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Says how often to draw each instruction."""
        ...

    def reward(self, case: Case) -> None:
        """Notes that one of its cases reached something new."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a campaign ends: after so many seconds, cases or divergences, whichever comes first; None for no limit.

    A case that differs is made smaller for `shrink` seconds at most. `clock` tells the time, in seconds.
    """

    seconds: float | None
    cases: int | None
    shrink: float = 8.0
    divergences: int | None = 1
    clock: Callable[[], float] = time.monotonic


@dataclass
class Outcome:
    """What a campaign came to.  `cases` and `seconds` count earlier runs of it too, `drawn` this run's cases only."""

    cases: int = 0
    drawn: int = 0
    seconds: float = 0.0
    replayed: int = 0
    divergences: list[tuple[Divergence, Path]] = field(default_factory=list)
    first_found: float | None = None  # CPU seconds of the process until then


class Campaign:
    """Draws cases for a comparison and keeps those that differ, shrunk, in the corpus.

    `comparison` runs on the model that notes what it reaches, `coverage`; `make_plain` makes the comparison on the
    plain reference, which decides, and makes cases smaller. With `full_speed` half of the time is spent on its rows;
    with `programs`, some on them.
    """

    def __init__(
        self,
        comparison: Comparison,
        coverage: Coverage,
        make_plain: Callable[[], Comparison],
        source: Source,
        corpus: Corpus,
        progress: Progress,
        full_speed: FullSpeed | None = None,
    ) -> None:
        self.outcome = Outcome()
        self.programs: ProgramRuns | None = None
        self.full_speed = full_speed
        self.coverage = coverage
        self.corpus = corpus
        self.engine = comparison.tested.name
        self.seed = 0
        self._comparison = comparison
        self._make_plain = make_plain
        self._source = source
        self._progress = progress
        self._kinds: set[tuple[str, tuple[str, ...]]] = set()
        self._mark = coverage.mark()
        self._clock: Callable[[], float] = time.monotonic
        self._begin = self._clock()
        self._before = 0.0  # seconds of earlier runs
        self._batch = 0

    @cached_property
    def plain(self) -> Comparison:
        """The comparison on the plain reference."""
        return self._make_plain()

    @property
    def tally(self) -> Tally:
        """What the cases were."""
        return self._comparison.tally

    def run(self, seed: int, limits: Limits) -> Outcome:
        """Runs to the limits."""
        self.seed = seed
        self._clock = limits.clock
        self._begin = self._clock()
        end = None if limits.seconds is None else self._begin + limits.seconds
        self._replay(self.corpus.divergent())
        while not self._is_over(limits, end):
            begin = self._clock()
            if self.programs is None or not self.programs.are_all:
                self._run_cases(limits, end)
            self._run_rows(limits, end, self._clock() - begin)
            self._run_programs(limits, end)
        self._time()
        return self.outcome

    def _run_cases(self, limits: Limits, end: float | None) -> None:
        """Runs the next batch of cases."""
        cases = self._source.batch(Random(f"{self.seed} {self._batch}"), BATCH)
        if limits.cases is not None:
            cases = cases[: limits.cases - self.outcome.drawn]
        for case in cases:
            self._try(case, limits)
            if self._is_over(limits, end):
                break
        else:
            self._batch += 1
        self._steer(cases)

    def _run_programs(self, limits: Limits, end: float | None) -> None:
        """Runs a few programs."""
        if self.programs is None:
            return
        self.programs.source.weigh(self.coverage.weights())
        for case in self.programs.batch(self.seed):
            if self._is_over(limits, end):
                break
            if self.programs.are_all:
                self.outcome.cases += 1
                self.outcome.drawn += 1
            found = self.programs.examine(case)
            if found is not None:
                self._keep(found, limits)
        self._time()
        self._progress(self.outcome, self.coverage)

    def examine(self, case: Case) -> Divergence | None:
        """The first difference that is not known, on the plain reference."""
        if case.kind == PROGRAM:
            return self.programs.examine(case) if self.programs is not None else None
        return self.plain.count_known(self.plain.decide(case))

    def _run_rows(self, limits: Limits, end: float | None, seconds: float) -> None:
        """Runs rows for so many seconds."""
        stop = self._clock() + seconds
        while self.full_speed is not None and self._clock() < stop and not self._is_over(limits, end):
            for divergence in self.full_speed.batch(self.seed):
                self._decide(divergence, limits)
            self._time()
            self._progress(self.outcome, self.coverage)

    def _decide(self, row: Divergence, limits: Limits) -> None:
        """Asks the plain reference about a row that differs; it may be the compiled reference that is wrong."""
        assert self.full_speed is not None
        found = self.plain.decide(row.case)
        if found is None and self.plain.differs_where_undefined:
            self.full_speed.speed.undefined += 1
        elif found is None:
            self.full_speed.speed.unconfirmed += 1
            self._report(row, self.corpus.save(row.case))
        elif not found.known:
            self._keep(found, limits)

    def _report(self, divergence: Divergence, path: Path) -> None:
        """Lists a divergence, one of each kind."""
        if kind_of(divergence) not in self._kinds:
            self._kinds.add(kind_of(divergence))
            self.outcome.divergences.append((divergence, path))

    def _time(self) -> None:
        self.outcome.seconds = self._before + self._clock() - self._begin

    def _is_over(self, limits: Limits, end: float | None) -> bool:
        out_of_time = end is not None and self._clock() >= end
        enough_cases = limits.cases is not None and self.outcome.drawn >= limits.cases
        found = len(self.outcome.divergences)
        return out_of_time or enough_cases or (limits.divergences is not None and found >= limits.divergences)

    def _replay(self, cases: Iterable[tuple[Path, Case]]) -> None:
        """Tries cases of the corpus, all of them."""
        for path, case in cases:
            self.outcome.replayed += 1
            try:
                divergence = self.examine(case)
            except CaseError as error:
                self.corpus.problems.append(f"{path}: {error}")
                continue
            if divergence is not None:
                self._kinds.add(kind_of(divergence))
                self.outcome.divergences.append((divergence, path))

    def _try(self, case: Case, limits: Limits) -> None:
        self.outcome.cases += 1
        self.outcome.drawn += 1
        found = self._comparison.run(case)
        if self.coverage.has_grown(self._mark):
            self._mark = self.coverage.mark()
            self._source.reward(case)
            self.has_reached(case)
        if found is not None:
            self._keep(found, limits)

    def has_reached(self, case: Case) -> None:
        """Called with a case that reached something new."""

    def _keep(self, found: Divergence, limits: Limits) -> None:
        """Saves a divergence at once (shrinking can be interrupted), and then made smaller, one of each kind."""
        # What differs only where coverage is noted is a fault in that, and to be seen.
        divergence = self.examine(found.case) or found
        if kind_of(divergence) in self._kinds:
            return
        self._kinds.add(kind_of(divergence))
        if self.outcome.first_found is None:
            self.outcome.first_found = time.process_time()
        first = self.corpus.save(divergence.case)
        small = shrunk(divergence, self.examine, self.plain.model.decoder, limits.shrink)
        path = self.corpus.save(small.case)
        if path != first:
            self.corpus.remove(first)
        self._kinds.add(kind_of(small))
        self.outcome.divergences.append((small, path))

    def _steer(self, cases: list[Case]) -> None:
        """After each batch: what to draw next, and the progress."""
        self._time()
        self.coverage.note_drawn(case.instruction for case in cases)
        self._source.weigh(self.coverage.weights())
        self._progress(self.outcome, self.coverage)


def kind_of(divergence: Divergence) -> tuple[str, tuple[str, ...]]:
    """What makes two divergences look alike: the instruction and the items."""
    items = sorted({difference.item.partition("[")[0] for difference in divergence.differences})
    return divergence.case.instruction, tuple(items)
