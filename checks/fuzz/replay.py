"""Replays one saved case on the two engines it was found with."""

from __future__ import annotations

from checks.case import Case
from checks.fuzz.compare import Comparison
from checks.fuzz.engines import tested_engine
from checks.fuzz.known import Known
from checks.fuzz.program_comparison import PROGRAM, ProgramComparison
from checks.fuzz.report import describe
from checks.outcome import EXCLUDED
from refmodel.model import Model

_latest: list[Comparison] = []
"""The comparison of the latest `outcome`: a run of many cases has one model and one engine."""


def outcome(case: Case, model: Model) -> str:
    """That both engines complete and agree, or what else happens.  Raises CaseError."""
    if not _latest or _latest[0].model is not model or _latest[0].tested.name != case.columns[1]:
        _latest[:] = [Comparison(model, tested_engine(case.columns[1]))]
    (comparison,) = _latest
    before = comparison.tally.executed
    if comparison.decide(case) is not None:
        return EXCLUDED
    return "completes" if comparison.tally.executed > before else "is refused"


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the engines still differ on it, 1 if they agree now."""
    if case.kind == PROGRAM:
        known: tuple[Known, ...] = ()
        divergence = ProgramComparison(model).examine(case)
    else:
        comparison = Comparison(model, tested_engine(case.columns[1]))
        known, divergence = comparison.known, comparison.decide(case)
    if divergence is None:
        print(f"reference and {case.columns[1]} agree on this case: the difference is gone")
        return 1
    print(describe(divergence, model, divergence.case.columns))
    print("\nCONFIRMED: the engines differ on this case")
    if divergence.known:
        fault = next(one for one in known if one.id == divergence.known)
        print(f"known as {fault.id} ({fault.whose}): {fault.reason}")
    return 0
