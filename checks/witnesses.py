"""Runs witnesses on the reference: the state that shows a theorem's assumptions to be possible does what it is said to.

A witness is a state that satisfies the assumptions and in which something happens: an instruction completes, a step is
taken, a guest is entered. Made a case as a counterexample would be, it is run by what replays those of its kind, and
has to do what the witness says, and not what the theorem excludes. A question that is answered yes has its
counterexample as a witness.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO

import z3

from checks.case import REPLAYERS, parse_case
from checks.outcome import EXCLUDED, OF_AN_ANSWER
from checks.solve import GroupRunner
from checks.solvers.answer import Limits
from checks.solvers.minimise import minimised
from checks.solvers.terms import TermSolver
from checks.theorem import Goal, Group, Witness
from checks.trap.theorems import IN_AN_ACCESS
from refmodel.model import Model
from refmodel.vectors import CaseError

PAGE_FAULT = "faults: vector 0xe,"
KEPT = "keeps the theorem"
"""What a witness without a name shows."""
NO_CASE = "its state has no case"
"""Of an instruction: no encoding is this state's."""
NO_STATE = "it is true by construction, of no state"
"""Of an instruction about which a family has nothing to say: it never exits."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A goal's first possible witness, and what the reference did; `why_not` says why it was not run.

    A witness without a name, of assumptions alone, says only that what the theorem excludes does not happen.
    """

    goal: str
    witness: str
    outcome: str = ""
    why_not: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the reference did something else than the witness says, or what the theorem excludes."""
        return not self.why_not and (self.outcome == EXCLUDED or not self.outcome.startswith(self.witness))

    @property
    def kind(self) -> str:
        """What to count it as: "wrong", "not run", or what the witness says."""
        return "wrong" if self.is_wrong else "not run" if self.why_not else self.witness or KEPT

    @property
    def needs_small_state(self) -> bool:
        """Whether the state has no case, or the page tables do not let the reference do what the witness says.

        They map each page once: it cannot be the program's and, with SMAP, the processor's for its own tables.
        """
        return self.why_not == NO_CASE or (self.is_wrong and self.outcome.startswith(PAGE_FAULT))


def replay_witnesses(group: Group, model: Model, limits: Limits) -> Iterator[Replayed]:
    """The witnesses of a group: one run for all goals that share them."""
    solver = TermSolver(group.context, group.hypotheses, is_large=group.is_large)
    seen = dict[tuple[int, ...], tuple[Witness, ...]]()
    for goal in map(_with_own_witnesses, group.goals):
        if goal.answers is not None:
            yield from _of_an_answer(group, goal, model, limits)
            continue
        shared = tuple(id(witness) for witness in goal.witnesses)  # C, I and E of a form; all about a step
        if not shared or shared not in seen:
            seen[shared] = goal.witnesses  # which keeps them, and so their identities
            yield _replayed(goal, solver, model, limits)


def _with_own_witnesses(goal: Goal) -> Goal:
    return goal if goal.own_witnesses is None else replace(goal, witnesses=tuple(goal.own_witnesses()))


def _of_an_answer(group: Group, goal: Goal, model: Model, limits: Limits) -> Iterator[Replayed]:
    """The witness of a question's answer, if that is yes."""
    assert goal.answers is not None
    if not goal.is_syntactic:
        result = GroupRunner(group, limits, explain_answers=True).prove(goal)
        if result.witness == goal.answers.fails:
            case = result.counterexample.case if result.counterexample is not None else None
            yield _run(goal, OF_AN_ANSWER, case, model)


def _replayed(goal: Goal, solver: TermSolver, model: Model, limits: Limits) -> Replayed:
    """Runs any state of the first possible witness; a small one if that cannot be run as it is."""
    always = Witness("", z3.BoolVal(True, solver.context))
    for witness in goal.witnesses or (always,):
        found = _model_of(goal, witness, solver, limits, is_small=False)
        if found is not None:
            replayed = _explained(goal, witness, found, model)
            if not replayed.needs_small_state:
                return replayed
            small = _model_of(goal, witness, solver, limits, is_small=True)
            return replayed if small is None else _explained(goal, witness, small, model)
    return Replayed(goal.id, "", why_not="z3 finds no witness")


def _model_of(
    goal: Goal, witness: Witness, solver: TermSolver, limits: Limits, *, is_small: bool
) -> z3.ModelRef | None:
    """A state of a witness, with all its hints if that is possible, or else with as many as there can be."""
    wanted = goal.minimise() if is_small and goal.minimise is not None else ()
    conditions = (*goal.hypotheses, witness.condition)
    found = _solved(solver, (*conditions, *witness.hints), limits, wanted)
    if found is None:
        possible = list[z3.BoolRef]()
        for hint in witness.hints:
            if _solved(solver, (*conditions, *possible, hint), limits) is not None:
                possible.append(hint)
        found = _solved(solver, (*conditions, *possible), limits, wanted)
    return found


def _solved(
    solver: TermSolver,
    conditions: Sequence[z3.BoolRef],
    limits: Limits,
    wanted: Sequence[z3.ExprRef] = (),
) -> z3.ModelRef | None:
    """A model in which what is wanted is zero if it can be, None if there is none."""
    answer, deciding = solver.check(conditions, limits)
    try:
        return minimised(deciding, wanted, limits.second_rlimit) if answer.verdict == "sat" else None
    finally:
        solver.release()


def _explained(goal: Goal, witness: Witness, found: z3.ModelRef, model: Model) -> Replayed:
    if goal.is_syntactic and not goal.hypotheses and not goal.witnesses:
        return Replayed(goal.id, witness.name, why_not=NO_STATE)
    if IN_AN_ACCESS in witness.name:
        return Replayed(goal.id, witness.name, why_not="an access has to fail")
    case = goal.explain(found).case if goal.explain is not None else None
    return _run(goal, witness.name, case, model)


def _run(goal: Goal, witness: str, case: dict[str, object] | None, model: Model) -> Replayed:
    if case is None:
        return Replayed(goal.id, witness, why_not=NO_CASE)
    parsed = parse_case(case)
    try:
        with redirect_stdout(StringIO()):
            outcome = importlib.import_module(REPLAYERS[parsed.kind]).outcome(parsed, model)
    except CaseError as error:
        return Replayed(goal.id, witness, why_not=str(error))
    return Replayed(goal.id, witness, str(outcome))
