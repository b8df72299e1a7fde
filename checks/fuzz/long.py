"""Long campaigns: the corpus keeps what they need to go on, and a small set of cases that reaches all they did."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from checks.case import Case
from checks.fuzz.campaign import Campaign, Limits, Outcome
from checks.fuzz.coverage import Clause, Coverage
from checks.fuzz.full_speed import Speed
from refmodel.vectors import CaseError

_WRITE_SECONDS = 20.0  # between two writings of the state


class LongCampaign(Campaign):
    """A campaign that goes on where the last one with this corpus stopped, killed or not.

    Divergences and seeds are written as they are found, the state every few seconds and at the end.
    """

    _written = 0.0

    def run(self, seed: int, limits: Limits) -> Outcome:
        """Goes on to the limits; the seed of an earlier run counts more than the given one."""
        state = self.corpus.read_state()
        try:
            self._resume(state)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            self.corpus.problems.append(f"{self.corpus.directory}: the campaign begins anew: {error}")
        self._replay_seeds()
        try:
            return super().run(int(state.get("seed", seed)), limits)
        finally:
            self._time()
            self.minimise()
            self._write()

    def _resume(self, state: dict[str, Any]) -> None:
        if not state:
            return
        self._batch, self.outcome.cases = int(state["batch"]), int(state["cases"])
        self._before = float(state["seconds"])
        self._comparison.tally.known.update(state["known"])
        if self.full_speed is not None:
            self.full_speed.speed = Speed(**state["full_speed"])
        self.coverage.add({(str(p), str(k), str(o)) for p, k, o in state["clauses"]})
        self.coverage.drawn.update(state["drawn"])

    def _replay_seeds(self) -> None:
        for path, case in self.corpus.seeds():
            try:
                self._comparison.run(case)
            except CaseError as error:
                self.corpus.problems.append(f"{path}: {error}")
        self._mark = self.coverage.mark()

    def has_reached(self, case: Case) -> None:
        """Keeps a case that reached something new."""
        self.corpus.save_seed(replace(case, columns=("reference", self.engine)))

    def _steer(self, cases: list[Case]) -> None:
        super()._steer(cases)
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        coverage = self.coverage
        self.corpus.write_state(
            {
                "seed": self.seed,
                "batch": self._batch,
                "cases": self.outcome.cases,
                "seconds": round(self.outcome.seconds, 1),
                "full_speed": vars(self.full_speed.speed if self.full_speed is not None else Speed()),
                "known": dict(self._comparison.tally.known),
                "clauses": coverage.reached_clauses(),
                "drawn": coverage.drawn,
            }
        )

    def minimise(self) -> int:
        """Removes seeds that reach nothing that the others do not; returns how many remain."""
        coverage = self.coverage
        everything = coverage.reached_clauses()
        reached = self._reached_by_seeds(coverage)
        kept: set[Path] = set()
        missing: set[Clause] = set().union(*reached.values())
        while missing:
            best = max(reached, key=lambda path: (len(reached[path] & missing), path.name))
            kept.add(best)
            missing -= reached[best]
        for path in reached.keys() - kept:
            self.corpus.remove(path)
        coverage.forget()
        coverage.add(set(everything))
        return len(kept)

    def _reached_by_seeds(self, coverage: Coverage) -> dict[Path, set[Clause]]:
        tally = self._comparison.tally
        self._comparison.tally = type(tally)()
        reached: dict[Path, set[Clause]] = {}
        for path, case in self.corpus.seeds():
            coverage.forget()
            try:
                self._comparison.run(case)
            except CaseError:
                continue  # was reported when it was read
            reached[path] = set(coverage.reached_clauses())
        self._comparison.tally = tally
        return reached
