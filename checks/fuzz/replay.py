"""Replays one saved case on the two engines it was found with."""

from __future__ import annotations

from checks.case import Case
from checks.fuzz.compare import Comparison
from checks.fuzz.engines import pair_of
from checks.fuzz.report import describe
from refmodel.model import Model


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the engines still differ on it, 1 if they agree now."""
    tested, reference = pair_of(",".join(case.columns))
    divergence = Comparison(model, tested, reference).run(case)
    if divergence is None:
        print(f"{case.columns[0]} and {case.columns[1]} agree on this case: the difference is gone")
        return 1
    print(describe(divergence, model, case.columns))
    print("\nCONFIRMED: the engines differ on this case")
    return 0
