"""How far a campaign is: a line on the terminal, or a line in a log now and then."""

from __future__ import annotations

import sys
import time

from checks.fuzz.campaign import Outcome
from checks.fuzz.coverage import Coverage

_ON_TERMINAL, _IN_LOG = 0.2, 15.0  # seconds between two showings


class Status:
    """Shows it on standard error; in a log only if `logs`."""

    def __init__(self, *, logs: bool) -> None:
        self._live = sys.stderr.isatty()
        self._logs = logs
        self._next = time.monotonic() + (_ON_TERMINAL if self._live else _IN_LOG)

    def show(self, outcome: Outcome, coverage: Coverage) -> None:
        """Shows it, if it is time."""
        if time.monotonic() < self._next or not (self._live or self._logs):
            return
        self._next = time.monotonic() + (_ON_TERMINAL if self._live else _IN_LOG)
        text = progress_text(outcome, coverage)
        print(
            f"\r\033[K{text} " if self._live else text,
            end="" if self._live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def clear(self) -> None:
        """Removes the line."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def progress_text(outcome: Outcome, coverage: Coverage) -> str:
    """How many cases, how long, what was reached and found."""
    found = f", {len(outcome.divergences)} divergences" if outcome.divergences else ""
    return (
        f"{outcome.cases} cases, {outcome.seconds:.0f} s, "
        f"{coverage.reached} of {coverage.total} clauses{found}"
    )
