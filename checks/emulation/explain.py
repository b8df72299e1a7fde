"""Explains a handler that does not do what the bare machine does, with a case that `nonroot replay` runs."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import ClassVar

from checks.emulation.runs import waits_for_ever
from checks.trap.casefile import CaseExplainer, FormExplainer, vmm_items
from checks.trap.concrete import Concrete
from checks.trap.explain import Explainer, Sides
from checks.trap.runs import Run
from checks.trap.theorems import Claim

COLUMNS = ("under the VMM", "bare machine")
WAITS = "waits for ever"
WRONG = "what the VMM makes of the exit is not what the bare machine does"


@dataclass(slots=True)
class EmulationExplainer(CaseExplainer):
    """Explains that a guest under the VMM and the bare machine part."""

    kind: ClassVar[str] = "emulation"

    def wording(self, claim: Claim) -> tuple[str, tuple[str, str]]:  # noqa: ARG002 - there is one theorem
        """What is wrong, and what the two columns of values are."""
        return WRONG, COLUMNS

    def goal(self, claim: Claim) -> str:  # noqa: ARG002 - there is one theorem
        """The id of the goal that the claim is."""
        return self.name

    def other_state(self, sides: Sides) -> dict[str, int]:
        """The variables of the VMM that the run uses."""
        run = sides.claim.left
        return vmm_items(sides.concrete, run.start, run.evaluator.touched)


@dataclass(slots=True)
class HandlingExplainer(EmulationExplainer, FormExplainer):
    """Explains refutations of the claim about one form; `constants` are fields that are the same in every VMCS."""

    constants: Container[str]

    def start_rows(self, sides: Sides) -> Iterator[tuple[str, str, str]]:
        """What the runs used of their start states, but for what is always the same."""
        rows = Explainer.start_rows(self, sides)
        return (row for row in rows if row[0] not in self.constants)

    def outcome(self, concrete: Concrete, run: Run) -> str:
        """What a run did."""
        if concrete.holds(run.exits):
            return "is stopped"
        if concrete.holds(run.completes) and concrete.holds(
            waits_for_ever(self.settings.terms, run.completed)
        ):
            return WAITS
        told = Explainer.outcome(self, concrete, run)
        return told if told != "exits" else "never runs again"
