"""z3 on the terms of a group, and the same questions as SMT-LIB text.

Verdicts are limited by `rlimit`, which counts the solver's work and so is the same on every machine and under any
load; the wall-clock limit is a safety net only. The solver for the logic of the terms comes first, since it is several
times faster on them; what it leaves open goes to the combined `Solver`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import z3
from z3 import z3core

from checks.solvers.answer import LOGIC, Answer, Limits
from checks.solvers.work import rlimit_count
from checks.symbolic.nodes import direct

_assert = direct(z3core.Z3_solver_assert)
LATEST = 3
"""So many models are tried, and one more."""


def script(conditions: Sequence[z3.BoolRef]) -> str:
    """The question whether conditions, at least one, are satisfiable together, as SMT-LIB text.

    It is made from the terms as they were built: what a z3 solver prints of itself is what it has made of them.
    """
    *others, last = conditions
    array = (z3core.Ast * len(others))(*(one.as_ast() for one in others))
    text = z3core.Z3_benchmark_to_smtlib_string(
        last.ctx.ref(), "", "", "unknown", "", len(others), array, last.as_ast()
    )
    return str(text)


def assert_all(solver: z3.Solver, conditions: Iterable[z3.BoolRef]) -> None:
    """Asserts conditions of the solver's context: `Solver.add` would ask first for the sort of each."""
    context = solver.ctx.ref()
    for one in conditions:
        _assert(context, solver.solver, one.as_ast())


@dataclass(slots=True)
class TermSolver:
    """Asks questions that share hypotheses, which are asserted once, or if they are large, one by one.

    `models` are the latest models of the hypotheses; `stronger` are models of more than the hypotheses.
    """

    context: z3.Context
    hypotheses: Sequence[z3.BoolRef]
    stronger: Sequence[z3.ModelRef] = ()
    is_large: bool = False
    models: list[z3.ModelRef] = field(default_factory=list, init=False)
    _shared: z3.Solver | None = field(default=None, init=False)

    def is_satisfiable(self, conditions: Sequence[z3.BoolRef], limits: Limits) -> Answer:
        """The same for a question that is likely to have the answer yes: perhaps a model that is known shows it."""
        start = time.monotonic()
        for model in (*reversed(self.models), *reversed(self.stronger)):
            if all(z3.is_true(model.eval(one, model_completion=True)) for one in conditions):
                return Answer("sat", time.monotonic() - start)
        answer, solver = self.check(conditions, limits)
        if answer.verdict == "sat":
            self.models[:-LATEST] = []
            self.models.append(solver.model())
        self.release()
        return answer

    def check(self, conditions: Sequence[z3.BoolRef], limits: Limits) -> tuple[Answer, z3.Solver]:
        """Whether hypotheses and conditions are satisfiable together, and the solver that says so: it has the model.

        `release` is to be called before the next question.
        """
        if self.is_large:
            return self._check_alone(conditions, limits.second_rlimit, limits.seconds)
        first = self._first()
        first.push()
        assert_all(first, conditions)
        answer = _check(first, limits.first_rlimit, limits.seconds)
        if answer.verdict != "unknown" or answer.reason == "timeout" or not limits.second_rlimit:
            return answer, first
        left = max(0.0, limits.seconds - answer.seconds)
        again, second = self._check_alone(conditions, limits.second_rlimit, left)
        spent = (answer.seconds + again.seconds, answer.rlimit + again.rlimit)
        return replace(again, seconds=spent[0], rlimit=spent[1]), second

    def _check_alone(
        self, conditions: Sequence[z3.BoolRef], rlimit: int, seconds: float
    ) -> tuple[Answer, z3.Solver]:
        """The same by a solver of its own, which simplifies the question as a whole."""
        solver = z3.Solver(ctx=self.context)
        assert_all(solver, (*self.hypotheses, *conditions))
        return _check(solver, rlimit, seconds), solver

    def release(self) -> None:
        """Forgets the conditions of the latest question."""
        if not self.is_large:
            self._first().pop()

    def _first(self) -> z3.Solver:
        if self._shared is None:
            self._shared = z3.SolverFor(LOGIC, ctx=self.context)
            assert_all(self._shared, self.hypotheses)
        return self._shared


def _check(solver: z3.Solver, rlimit: int, seconds: float) -> Answer:
    solver.set(rlimit=rlimit, timeout=max(1, int(seconds * 1000)))
    before, start = rlimit_count(solver), time.monotonic()
    verdict = str(solver.check())
    elapsed = time.monotonic() - start
    reason = solver.reason_unknown() if verdict == "unknown" else ""
    return Answer(verdict, elapsed, rlimit_count(solver) - before, reason)
