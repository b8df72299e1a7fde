"""Asks z3 whether conditions can hold together; an answer that is not known is an error, never a guess."""

from __future__ import annotations

from collections.abc import Sequence

import z3

from checks.solvers.answer import Limits
from checks.solvers.terms import TermSolver


class UndecidedError(Exception):
    """The solver gave no answer within its limits."""


class RefutedError(Exception):
    """A theorem that is asked what it needs does not hold."""


class Asker:
    """Asks about terms of one context, under hypotheses."""

    def __init__(self, context: z3.Context, hypotheses: Sequence[z3.BoolRef]) -> None:
        self._solver = TermSolver(context, tuple(hypotheses))
        self._limits = Limits()

    def can(self, *conditions: z3.BoolRef) -> bool:
        """Whether the conditions can hold together with the hypotheses.  Raises UndecidedError."""
        answer, _ = self._solver.check(conditions, self._limits)
        self._solver.release()
        if answer.verdict not in ("sat", "unsat"):
            raise UndecidedError(answer.reason)
        return answer.verdict == "sat"
