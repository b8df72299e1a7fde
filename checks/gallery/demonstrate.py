"""Puts a bug into the specification and shows what the theorems and the reference say of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import z3

from checks.case import REPLAYERS, parse_case
from checks.families import build_alone, families
from checks.gallery.bugs import Bug, with_bug
from checks.gallery.scenario import Observed, observe
from checks.prover.selection import select
from checks.solve import GroupRunner, Limits
from checks.theorem import Counterexample, Result, Status
from grammar import ir
from refmodel.model import Model, build


@dataclass(slots=True)
class Shown:
    """What came out: a refuted theorem, whether its counterexample replays, and what guests saw.

    `replayed` is None where there is nothing that the reference could run, `observed` where no guests are given.
    """

    bug: Bug
    refuted: list[Result] = field(default_factory=list)
    replayed: bool | None = None
    replay: str = ""
    observed: Observed | None = None

    @property
    def is_found(self) -> bool:
        """Whether all that was asked for came out: a refutation that replays, and harm to the guests."""
        proofs = not self.bug.goals or (bool(self.refuted) and self.replayed is not False)
        return proofs and (self.observed is None or self.observed.written != self.bug.right)


def demonstrate(bug: Bug, directory: Path | None) -> Shown:
    """Everything about one bug.  Raises GalleryError if it does not fit the specification."""
    program = with_bug(bug, directory)
    model = build(program)
    shown = Shown(bug)
    for result in _refuted(program, bug):
        shown.refuted.append(result)
        if shown.replayed is None and result.counterexample is not None:
            shown.replayed, shown.replay = _replay(result.counterexample, model)
        if shown.replayed:
            break
    if bug.guests:
        shown.observed = observe(model, bug.guests)
    return shown


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


def _replay(found: Counterexample, model: Model) -> tuple[bool | None, str]:
    """Whether the reference confirms a counterexample, and what it says."""
    if found.case is None:
        return None, ""
    case = parse_case(found.case)
    said = StringIO()
    with redirect_stdout(said):
        status = importlib.import_module(REPLAYERS[case.kind]).replay(case, model)
    return status == 0, said.getvalue()
