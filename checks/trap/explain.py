"""Renders a model of a refuted theorem: the instruction, the fields that matter, what differs, and a case to replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3

from checks.symbolic.values import Value, lifted
from checks.theorem import Counterexample
from checks.trap.concrete import Concrete, item, show, show_record
from checks.trap.runs import Run, Settings
from checks.trap.theorems import Claim, Theorem
from grammar.source import Span

COLUMNS = {
    Theorem.CONFIDENTIALITY: ("first run", "second run"),
    Theorem.INTEGRITY: ("before", "after"),
    Theorem.EQUIVALENCE: ("guest", "bare machine"),
}
WRONG = {
    Theorem.CONFIDENTIALITY: "two states look the same to the guest, and then do not",
    Theorem.INTEGRITY: "the guest changes what belongs to the VMM, without a VM exit",
    Theorem.EQUIVALENCE: "without a VM exit, the guest gets something else than on the bare machine",
}


@dataclass(frozen=True, slots=True)
class Sides:
    """A claim under a model: the values of the two start states, by item."""

    claim: Claim
    concrete: Concrete
    left: dict[str, int]
    right: dict[str, int]


@dataclass(slots=True)
class Explainer:
    """Explains refutations of the claims about one subject, which stands at `where` in the specification."""

    settings: Settings
    where: Span

    def symbols(self) -> tuple[Value, ...]:
        """The symbols of the subject itself, besides those of the start states."""
        return ()

    def wording(self, claim: Claim) -> tuple[str, tuple[str, str]]:
        """What is wrong, and what the two columns of values are."""
        return WRONG[claim.theorem], COLUMNS[claim.theorem]

    def shown(self, sides: Sides) -> tuple[str, dict[str, object] | None]:
        """The subject as the model has it, and a case to replay if there can be one."""
        raise NotImplementedError

    def minimise(self, claim: Claim) -> tuple[z3.ExprRef, ...]:
        """What to make zero if possible: first accesses that fault, then the controls, then everything else."""
        terms, state = self.settings.terms, self.settings.program.state
        found: list[Value] = [*claim.left.aborts, *claim.right.aborts]
        scalars = sorted(self.settings.symbols.scalars.items(), key=lambda one: one[0].split("!")[0] in state)
        found += [lifted(terms, value, t) for _, (value, t) in scalars]
        for run in (claim.left, claim.right):
            for name, points in run.evaluator.touched.points.items():
                if name in state:
                    elements = run.start.elements(name)
                    found += [elements.read(point) for point in points.values()]
        return tuple(one for one in (*found, *self.symbols()) if isinstance(one, z3.ExprRef))

    def explain(self, claim: Claim, model: z3.ModelRef) -> Counterexample:
        """The counterexample under a model."""
        concrete = Concrete(model)
        sides = Sides(claim, concrete, concrete.start(claim.left), concrete.start(claim.right))
        shown, case = self.shown(sides)
        outcomes = [("then it", self.outcome(concrete, claim.left), self.outcome(concrete, claim.right))]
        rows = (
            *self.start_rows(sides),
            *(outcomes if claim.theorem is not Theorem.INTEGRITY else []),
            *_differences(concrete, claim),
        )
        wrong, columns = self.wording(claim)
        return Counterexample(f"{shown}: {wrong}", ("", *columns), rows, self.where, case)

    def outcome(self, concrete: Concrete, run: Run) -> str:
        """What a run did."""
        if concrete.holds(run.completes):
            return "completes"
        if concrete.holds(run.faults):
            assert run.fault is not None
            return f"faults: {show_record(concrete, run.fault, run.fault.type)}"
        return "exits"

    def start_rows(self, sides: Sides) -> Iterator[tuple[str, str, str]]:
        """What the runs used of their start states and is not zero, or differs."""
        claim = sides.claim
        used = claim.left.evaluator.touched.names | claim.right.evaluator.touched.names
        for name in sorted({*sides.left, *sides.right}, key=_order):
            variable = self.settings.program.state[name.split("[")[0]]
            a, b = sides.left.get(name, 0), sides.right.get(name, 0)
            if variable.name in used - {self.settings.mode} and (a or b):
                # What only the VMM owns does not exist on the bare machine; its value there is of no interest
                # unless that is what the guest gets.
                is_absent = claim.theorem is Theorem.EQUIVALENCE and variable.view is None and not b
                yield name, show(a, variable.type), "" if is_absent else show(b, variable.type)


def _order(name: str) -> tuple[int, str]:
    return (0 if name.startswith("GPR") else 1, name)


def _differences(concrete: Concrete, claim: Claim) -> Iterator[tuple[str, str, str]]:
    """The comparisons that fail."""
    for comparison in claim.comparisons:
        if concrete.holds(comparison.condition) and not concrete.holds(comparison.is_equal):
            yield (
                f"{item(comparison.name, concrete.point(comparison.point))} then",
                show_record(concrete, comparison.left, comparison.type),
                show_record(concrete, comparison.right, comparison.type),
            )
