"""Replays a counterexample of totality on the reference: an exit without a handler, a handler that goes astray, an
interrupt that a guest notices, a way back that enters the wrong guest, or an end that is none or concerns others.
"""

from __future__ import annotations

from collections.abc import Mapping

from checks.case import Case
from checks.outcome import EXCLUDED
from checks.symbolic.paths import RETURN
from checks.totality import endings, entries
from checks.totality.arrivals import DELIVER, IS_NOT_DELIVERED, IS_NOT_NOTICED
from checks.totality.exits import IS_HANDLED
from checks.totality.handlers import ASKED, IS_NOT_SWITCHED, RETURNS
from checks.totality.ignored import GOES_ON, KEEPS, STOP
from checks.totality.memory import IS_NOT_TOLD, IS_UNWRITTEN
from checks.totality.open_run import end_in_words
from checks.totality.played import Played
from checks.totality.requests import CURRENT
from checks.totality.schedule_replay import is_back_with_host, is_ended, of_an_end, of_an_entry
from refmodel.model import Model

_LAST = {"arrivals": DELIVER, "ignored": STOP, "entries": entries.ENTRY}
"""Calls at which runs of these groups end: see `Havoc.end`."""


def replay(case: Case, model: Model) -> int:
    """Runs the case: 0 if what it claims is broken, 1 if it holds.  Raises CaseError."""
    run = Played(case, model)
    run.play()
    holds = _holds(run)
    print(f"{case.id}: {case.instruction}")
    print(f"not confirmed: {run.calls.name}: {run.claim} holds here" if holds else f"CONFIRMED: {case.text}")
    return 1 if holds else 0


def outcome(case: Case, model: Model) -> str:
    """What the run does, if the claim of the case holds.  Raises CaseError."""
    run = Played(case, model)
    run.play()
    return _done(run) if _holds(run) else EXCLUDED


def _done(run: Played) -> str:
    """In the words of witnesses: how the run ends, or what it was about."""
    if run.calls.name in endings.ENDING and is_ended(run):
        return endings.ENDS_GUEST
    if run.raised is not None:
        return end_in_words(type(run.raised).__name__.removesuffix("Abort"))
    last = _LAST.get(run.case.id.split(".")[1])
    return end_in_words(last if last in run.called else RETURN)


def _holds(run: Played) -> bool:
    """Whether the claim of the case holds; one that is no other's is the name of what is kept for each guest."""
    named: Mapping[str, bool] = {
        IS_HANDLED: not run.is_unhandled(),
        RETURNS: run.raised is None,
        **{claim: kind not in run.asked for claim, kind in ASKED.items()},
        IS_NOT_SWITCHED: not run.switched,
        IS_NOT_DELIVERED: DELIVER not in run.called,
        IS_NOT_NOTICED: run.is_unnoticed(),
        GOES_ON: STOP not in run.called,
        IS_NOT_TOLD: not run.is_told(),
        CURRENT: run.vm == run.machine.CURRENT_VM,
    }
    if run.claim == IS_UNWRITTEN:
        return run.is_memory_unchanged()
    if run.claim in named:
        return named[run.claim]
    for claims, holds in ((entries.CLAIMS, of_an_entry), (endings.CLAIMS, of_an_end)):
        if run.claim in claims:
            return holds(run)
    if run.claim.startswith(KEEPS):
        return run.is_unchanged(run.claim.removeprefix(KEEPS))
    if run.claim.startswith(endings.OF_THE_HOST):
        return is_back_with_host(run, run.claim.removeprefix(endings.OF_THE_HOST))
    return run.is_others_unchanged(run.claim)
