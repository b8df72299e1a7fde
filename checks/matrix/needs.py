"""Which policies a theorem needs: an unsat core over them, made minimal by leaving out one after the other.

A minimal core is sufficient, and none of it can be left out; another one may exist where policies overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import z3

from checks.matrix.asker import UndecidedError
from checks.solvers.answer import FIRST_RLIMIT

Named = Sequence[tuple[str, z3.BoolRef]]


def minimal_core(goal: z3.BoolRef, assumed: Iterable[z3.BoolRef], policies: Named) -> tuple[str, ...] | None:
    """The names of policies from which the goal follows, none of which can be left out; None if it does not follow.

    Conditions of one name count as one policy.  Raises UndecidedError.
    """
    if z3.is_true(goal):
        return ()
    context = goal.ctx
    solver = z3.SimpleSolver(ctx=context)
    solver.set("rlimit", 4 * FIRST_RLIMIT)
    solver.add(*assumed, z3.Not(goal))
    literals = {name: z3.Bool(f"policy {name}", context) for name, _ in policies}
    solver.add(*(z3.Implies(literals[name], condition) for name, condition in policies))
    core = _core(solver, literals, list(literals))
    if core is None:
        return None
    for name in core:
        smaller = _core(solver, literals, [one for one in core if one != name]) if name in core else None
        core = smaller if smaller is not None else core
    return tuple(name for name in literals if name in core)


def _core(solver: z3.Solver, literals: dict[str, z3.BoolRef], names: Sequence[str]) -> list[str] | None:
    """Those of the names that z3 used to refute the negated goal, None if it can be satisfied."""
    verdict = solver.check(*(literals[name] for name in names))
    if verdict == z3.unknown:
        raise UndecidedError(solver.reason_unknown())
    if verdict == z3.sat:
        return None
    used = {one.get_id() for one in solver.unsat_core()}
    return [name for name in names if literals[name].get_id() in used]
