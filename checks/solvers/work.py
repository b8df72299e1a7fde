"""The solver's work, which is the same on every machine and under any load."""

from __future__ import annotations

import z3
from z3 import z3core

from checks.symbolic.nodes import direct

_KEY = "rlimit count"
_key_at = direct(z3core.Z3_stats_get_key)
_value_at = direct(z3core.Z3_stats_get_uint_value)


def rlimit_count(solver: z3.Solver) -> int:
    """What z3 has counted in the solver's context so far.  It stands near the end of what z3 tells."""
    context, found = solver.ctx.ref(), solver.statistics()
    for index in reversed(range(len(found))):
        if _key_at(context, found.stats, index).decode() == _KEY:
            return int(_value_at(context, found.stats, index))
    return 0
