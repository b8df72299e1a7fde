"""Runs witnesses on the reference: the state that shows a theorem's assumptions to be possible does what it is said to.

A witness is a start state under the policy in which an instruction completes, faults or exits. The reference runs the
instruction from it, with page tables under which no access fails; a witness of a failing access is not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3

from checks.case import parse_case
from checks.solvers.answer import Limits
from checks.solvers.minimise import minimised
from checks.solvers.terms import TermSolver
from checks.theorem import Goal, Group, Witness
from checks.trap.replay import Player
from checks.trap.theorems import IN_AN_ACCESS, Theorem
from refmodel.model import Model
from refmodel.vectors import CaseError

PAGE_FAULT = "faults: vector 0xe,"
NOT_ENCODED = "no encoding of the instruction is this state's"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A goal's first possible witness, and what the reference did; `why_not` says why it was not run."""

    goal: str
    witness: str
    outcome: str = ""
    why_not: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the reference did something else than the witness says."""
        return not self.why_not and not self.outcome.startswith(self.witness)

    @property
    def needs_small_state(self) -> bool:
        """Whether a branch has no encoding, or the page tables do not let the reference do what the witness says.

        They map each page once: it cannot be the program's and, with SMAP, the processor's for its own tables.
        """
        return self.why_not == NOT_ENCODED or (self.is_wrong and self.outcome.startswith(PAGE_FAULT))


def replay_witnesses(group: Group, model: Model, limits: Limits) -> Iterator[Replayed]:
    """One witness of each form of a group about instructions."""
    solver = TermSolver(group.context, group.hypotheses)
    for goal in group.goals:
        if goal.id.startswith("trap.") and goal.id.endswith(f".{Theorem.EQUIVALENCE}"):
            yield _replayed(goal, solver, model, limits)


def _replayed(goal: Goal, solver: TermSolver, model: Model, limits: Limits) -> Replayed:
    """Runs any state of a witness; a small one if that cannot be run as it is."""
    for witness in goal.witnesses:
        found = _model_of(goal, witness, solver, limits, is_small=False)
        if found is not None:
            replayed = _run(goal, witness, found, model)
            small = (
                _model_of(goal, witness, solver, limits, is_small=True)
                if replayed.needs_small_state
                else None
            )
            return replayed if small is None else _run(goal, witness, small, model)
    return Replayed(goal.id, "", why_not="z3 finds no witness")


def _model_of(
    goal: Goal, witness: Witness, solver: TermSolver, limits: Limits, *, is_small: bool
) -> z3.ModelRef | None:
    """A state of a witness, with its hints if that is possible."""
    wanted = goal.minimise() if is_small and goal.minimise is not None else ()
    for hints in (witness.hints, ()):
        answer, deciding = solver.check((*goal.hypotheses, witness.condition, *hints), limits)
        try:
            if answer.verdict == "sat":
                return minimised(deciding, wanted, limits.second_rlimit)
        finally:
            solver.release()
    return None


def _run(goal: Goal, witness: Witness, found: z3.ModelRef, model: Model) -> Replayed:
    if IN_AN_ACCESS in witness.name:
        return Replayed(goal.id, witness.name, why_not="an access has to fail")
    case = goal.explain(found).case if goal.explain is not None else None
    if case is None:
        return Replayed(goal.id, witness.name, why_not=NOT_ENCODED)
    player = Player(parse_case(case), model)
    try:
        return Replayed(goal.id, witness.name, player.run(player.machine({})).text)
    except CaseError as error:
        return Replayed(goal.id, witness.name, why_not=str(error))
