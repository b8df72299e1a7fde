"""The witnesses of an instruction's sensitivity, each replayed on the reference."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import z3

from checks.case import REPLAYERS, parse_case
from checks.families import families
from checks.prover.selection import select
from checks.sensitivity.questions import FAMILY, YES
from checks.solve import GroupRunner, Limits
from checks.theorem import Counterexample
from grammar import ir
from refmodel.model import Model


@dataclass(frozen=True, slots=True)
class Shown:
    """A witness for the goal `id`, whether the reference confirms it, and what it says."""

    id: str
    found: Counterexample
    confirmed: bool
    said: str


def witnesses(program: ir.Program, model: Model, instruction: str) -> Iterator[Shown]:
    """A witness of each question that is answered with yes, for every form of an instruction."""
    known = families()
    for task in select(program, known, [f"{FAMILY}.{instruction}"]):
        group = known[task.family].build(program, task.group, z3.Context(), task.ids)
        runner = GroupRunner(group, Limits(), explain_answers=True)
        for goal in group.goals:
            result = runner.prove(goal) if goal.id in task.ids and goal.answers is not None else None
            if result is not None and result.witness == YES and result.counterexample is not None:
                yield _replayed(result.id, result.counterexample, model)


def _replayed(goal: str, found: Counterexample, model: Model) -> Shown:
    said = StringIO()
    if found.case is None:
        return Shown(goal, found, confirmed=False, said="there is no encoding of it")
    case = parse_case(found.case)
    with redirect_stdout(said):
        status = importlib.import_module(REPLAYERS[case.kind]).replay(case, model)
    return Shown(goal, found, confirmed=status == 0, said=said.getvalue())
