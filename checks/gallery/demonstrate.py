"""Puts a bug into the specification and shows what the theorems and the reference say of it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import z3

from checks.case import REPLAYERS, Case, parse_case
from checks.families import build_alone, families
from checks.gallery.bugs import Bug, GalleryError, with_bug
from checks.gallery.scenario import Observed, observe
from checks.prover.selection import select
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from grammar import ir
from refmodel.model import Model, build


@dataclass(slots=True)
class Shown:
    """What came out: a refuted theorem, whether its counterexample replays, and what guests saw.

    `replayed` is None where there is nothing that the reference could run, `observed` where no guests are given.
    `problem` says why the bug does not fit the specification, `seconds` is CPU time.
    """

    bug: Bug
    refuted: list[Result] = field(default_factory=list)
    replayed: bool | None = None
    replay: str = ""
    observed: Observed | None = None
    problem: str = ""
    seconds: float = 0.0

    @property
    def is_found(self) -> bool:
        """Whether all that was asked for came out: a refutation that replays, and harm to the guests."""
        if self.problem:
            return False
        proofs = not self.bug.goals or (bool(self.refuted) and self.replayed is not False)
        return proofs and (self.observed is None or self.observed.written != self.bug.right)


def demonstrate(bug: Bug, directory: Path | None) -> Shown:
    """Everything about one bug."""
    begin, shown = time.process_time(), Shown(bug)
    try:
        _demonstrate(shown, with_bug(bug, directory))
    except GalleryError as error:
        shown.problem = str(error)
    shown.seconds = time.process_time() - begin
    return shown


def _demonstrate(shown: Shown, program: ir.Program) -> None:
    bug, model = shown.bug, build(program)
    for result in _refuted(program, bug):
        shown.refuted.append(result)
        if result.counterexample is None or result.counterexample.case is None:
            continue
        shown.replayed, shown.replay = _replay(parse_case(result.counterexample.case), model)
        if shown.replayed:
            break
    if bug.guests:
        shown.observed = observe(model, bug.guests)


def _refuted(program: ir.Program, bug: Bug) -> Iterator[Result]:
    if not bug.goals:
        return
    for task in select(program, families(), bug.goals):
        group = build_alone(program, task.family, task.group, z3.Context(), task.ids)
        runner = GroupRunner(group, Limits())
        for goal in group.goals:
            result = runner.prove(goal)
            if result.status is Status.REFUTED:
                yield result


def _replay(case: Case, model: Model) -> tuple[bool, str]:
    """Whether the reference confirms a counterexample, and what it says."""
    said = StringIO()
    with redirect_stdout(said):
        status = importlib.import_module(REPLAYERS[case.kind]).replay(case, model)
    return status == 0, said.getvalue()
