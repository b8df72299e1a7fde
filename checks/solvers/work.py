"""The solver's work, which is the same on every machine and under any load."""

from __future__ import annotations

import z3


def rlimit_count(solver: z3.Solver) -> int:
    """What z3 has counted in the solver's context so far."""
    return next((int(value) for name, value in solver.statistics() if name == "rlimit count"), 0)
