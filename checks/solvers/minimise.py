"""Makes the model of a counterexample small, so that what matters stands out.

How long it tries is counted in the solver's work, so that the same counterexample comes out on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import z3

from checks.solvers.work import rlimit_count

RLIMIT = 300_000
"""The work for one question."""
WORK = 6_000_000
"""The work in all: about a second."""


def minimised(solver: z3.Solver, terms: Sequence[z3.ExprRef], work: int = WORK) -> z3.ModelRef:
    """A model in which as many of the terms are zero or false as some trying gives, the first ones first."""
    small = _Smaller(solver, solver.model(), rlimit_count(solver) + work)
    solver.set("rlimit", RLIMIT)
    solver.push()
    for term in terms:
        if z3.is_bool(term):
            small.hold(z3.Not(term))
        else:
            small.clear(term, term.size() - 1, 0)
    solver.pop()
    return small.model


@dataclass(slots=True)
class _Smaller:
    """A model, made smaller step by step."""

    solver: z3.Solver
    model: z3.ModelRef
    end: int

    def hold(self, condition: z3.BoolRef) -> bool:
        """Whether the condition can hold with all that does already; if so it does from now on."""
        if not z3.is_true(self.model.eval(condition, model_completion=True)):
            if rlimit_count(self.solver) > self.end or self.solver.check(condition) != z3.sat:
                return False
            self.model = self.solver.model()
        self.solver.add(condition)
        return True

    def clear(self, term: z3.BitVecRef, high: int, low: int) -> None:
        """Makes the bits `high` to `low` zero, or else as many of them as can be."""
        if not self.hold(z3.Extract(high, low, term) == 0) and high > low:
            middle = (high + low) // 2
            self.clear(term, high, middle + 1)
            self.clear(term, middle, low)
