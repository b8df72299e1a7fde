"""A fuzzing campaign: replays the corpus, then draws cases until time or their number is used up or one differs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.strategies import SearchStrategy

from checks.case import Case, read_case, write_case
from checks.fuzz.compare import Comparison, Divergence
from checks.fuzz.strategies import CaseStrategy
from refmodel.vectors import CaseError

_BATCH = 250  # cases between two looks at the clock's end; each batch has a seed of its own

Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Limits:
    """When a campaign ends: after so many seconds or cases, whichever comes first; None for no limit.

    A case that differs is made smaller for `shrink` seconds at most.
    """

    seconds: float | None
    cases: int | None
    shrink: float = 8.0


@dataclass
class Outcome:
    """What a campaign came to.  `corrupt` are the files of the corpus that are no cases, with the reason."""

    cases: int = 0
    seconds: float = 0.0
    replayed: int = 0
    divergences: list[tuple[Divergence, Path]] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)


class _Found(Exception):
    """Tells hypothesis that a case fails."""


class _OutOfTime(BaseException):
    """Ends a batch in its middle; hypothesis must not take it for a failing case."""


class Campaign:
    """Draws cases for a comparison and keeps those that differ, shrunk, in the corpus directory."""

    def __init__(
        self, comparison: Comparison, strategy: CaseStrategy, corpus: Path, progress: Progress
    ) -> None:
        self.outcome = Outcome()
        self._comparison = comparison
        self._strategy = strategy.cases()
        self._corpus = corpus
        self._progress = progress
        self._begin = time.monotonic()
        self._end: float | None = None
        self._shrink = 0.0
        self._smallest: Divergence | None = None

    def run(self, first_seed: int, limits: Limits) -> Outcome:
        """Runs to the limits, or to the first case that differs."""
        self._end = None if limits.seconds is None else self._begin + limits.seconds
        self._shrink = limits.shrink
        self._replay_corpus()
        batch = 0
        while not self.outcome.divergences and not self._is_over(limits):
            left = _BATCH if limits.cases is None else min(_BATCH, limits.cases - self.outcome.cases)
            self._run_batch(first_seed + batch, left)
            batch += 1
        self.outcome.seconds = time.monotonic() - self._begin
        return self.outcome

    def _is_over(self, limits: Limits) -> bool:
        out_of_time = self._end is not None and time.monotonic() >= self._end
        return out_of_time or (limits.cases is not None and self.outcome.cases >= limits.cases)

    # --- the corpus ---------------------------------------------------------------------------------

    def _replay_corpus(self) -> None:
        for path, case in self._read_corpus():
            self.outcome.replayed += 1
            try:
                divergence = self._comparison.run(case)
            except CaseError as error:
                self.outcome.corrupt.append(f"{path}: {error}")
                continue
            if divergence is not None:
                self.outcome.divergences.append((divergence, path))

    def _read_corpus(self) -> Iterator[tuple[Path, Case]]:
        for path in sorted(self._corpus.glob("*.json")):
            try:
                case = read_case(path)
            except (CaseError, OSError) as error:
                self.outcome.corrupt.append(str(error))
                continue
            if case.kind == "fuzz":
                yield path, case

    def _save(self, divergence: Divergence) -> Path:
        """Writes the case; its name depends on its content, so that nothing is written over."""
        case = divergence.case
        digest = hashlib.sha256(repr((case.base, case.code, sorted(case.state.items()))).encode()).hexdigest()
        path = self._corpus / f"{case.instruction.lower() or 'case'}-{digest[:12]}.json"
        write_case(path, case)
        return path

    # --- drawing ------------------------------------------------------------------------------------

    def _run_batch(self, batch_seed: int, count: int) -> None:
        first: Path | None = None
        started: float | None = None

        def check(case: Case) -> None:
            nonlocal first, started
            now = time.monotonic()
            limit = self._end if started is None else started + self._shrink
            if limit is not None and now >= limit:
                raise _OutOfTime
            self.outcome.cases += started is None
            divergence = self._compare(case, is_shrinking=started is not None)
            if divergence is not None:
                self._smallest = divergence
                if first is None:  # kept at once: shrinking can be interrupted
                    first, started = self._save(divergence), now
                raise _Found

        with suppress(_Found, _OutOfTime):
            _drawn(check, self._strategy, batch_seed, count)
        if self._smallest is not None and first is not None:
            path = self._save(self._smallest)
            if path != first:
                first.unlink()
            self.outcome.divergences.append((self._smallest, path))

    def _compare(self, case: Case, *, is_shrinking: bool) -> Divergence | None:
        """Runs a case.  An interrupt while a found case is made smaller ends only that."""
        try:
            self._progress(self.outcome.cases, time.monotonic() - self._begin)
            return self._comparison.run(case)
        except KeyboardInterrupt:
            if is_shrinking:
                raise _OutOfTime from None
            raise


def _drawn(
    check: Callable[[Case], None], strategy: SearchStrategy[Case], batch_seed: int, count: int
) -> None:
    """Lets hypothesis draw cases, and shrink the first that fails."""
    configured = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    configured(seed(batch_seed)(given(strategy)(check)))()
