"""Renders a model of a refuted theorem: the instruction, the fields that matter, what differs, and a case to replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import z3

from checks.case import Case
from checks.symbolic.paths import Cursor
from checks.symbolic.values import Value, lifted
from checks.theorem import Counterexample
from checks.trap.concrete import Concrete, Written, item, show, show_record, write_instruction
from checks.trap.contract import LINEAR
from checks.trap.mapping import Mapping4, physical_bytes
from checks.trap.operands import OperandSymbols
from checks.trap.runs import Run, Settings
from checks.trap.theorems import Claim, Theorem
from refmodel.encoder import Encoder

_COLUMNS = {
    Theorem.CONFIDENTIALITY: ("first run", "second run"),
    Theorem.INTEGRITY: ("before", "after"),
    Theorem.EQUIVALENCE: ("guest", "bare machine"),
}
_WRONG = {
    Theorem.CONFIDENTIALITY: "two states look the same to the guest, and then do not",
    Theorem.INTEGRITY: "the guest changes what belongs to the VMM, without a VM exit",
    Theorem.EQUIVALENCE: "without a VM exit, the guest gets something else than on the bare machine",
}
_PHYSICAL = "PHYSICAL"


class Tools(Protocol):
    """What is made only once there is a counterexample."""

    @property
    def encoder(self) -> Encoder:
        """Writes instructions."""
        ...


@dataclass(slots=True)
class FormExplainer:
    """Explains refutations of the claims about one form."""

    goal_id: str
    settings: Settings
    symbols: OperandSymbols
    tools: Tools

    def minimise(self, claim: Claim) -> tuple[z3.ExprRef, ...]:
        """What to make zero if possible: first accesses that fault, then the controls, then everything else."""
        terms, state = self.settings.terms, self.settings.program.state
        aborts = (*claim.left.aborts, *claim.right.aborts)
        found: list[z3.ExprRef] = [v for v in aborts if isinstance(v, z3.ExprRef)]
        scalars = sorted(self.settings.symbols.scalars.items(), key=lambda one: one[0].split("!")[0] in state)
        found += [lifted(terms, value, t) for _, (value, t) in scalars if isinstance(value, z3.ExprRef)]
        for one in (claim.left, claim.right):
            for name, points in one.evaluator.touched.points.items():
                if name in state:
                    elements = one.start.elements(name)
                    found += [v for p in points.values() if isinstance(v := elements.read(p), z3.ExprRef)]
        operands = (
            *self.symbols.numbers.values(),
            *self.symbols.values.values(),
            *self.symbols.addresses.values(),
        )
        return (*found, *(o for o in operands if isinstance(o, z3.ExprRef)))

    def explain(self, claim: Claim, model: z3.ModelRef) -> Counterexample:
        """The counterexample under a model."""
        concrete = Concrete(model)
        left = concrete.start(claim.left)
        right = concrete.start(claim.right)
        written = write_instruction(self.tools.encoder, concrete, self.symbols, claim.left, left["RIP"])
        case = self._case(claim, concrete, left, right, written) if written is not None else None
        instruction = self.symbols.form.instruction
        shown = f"{written.code.hex(' ')}  {written.text}" if written is not None else self.symbols.form.name
        summary = f"{shown}: {_WRONG[claim.theorem]}"
        rows = [
            *self._start_rows(claim, left, right),
            ("then it", _outcome(concrete, claim.left), _outcome(concrete, claim.right)),
            *_differences(concrete, claim),
        ]
        if claim.theorem is Theorem.INTEGRITY:
            rows = [row for row in rows if row[0] != "then it"]
        return Counterexample(summary, ("", *_COLUMNS[claim.theorem]), tuple(rows), instruction.span, case)

    def _start_rows(
        self, claim: Claim, left: dict[str, int], right: dict[str, int]
    ) -> Iterator[tuple[str, str, str]]:
        """What the runs used of their start states and is not zero, or differs."""
        used = claim.left.evaluator.touched.names | claim.right.evaluator.touched.names
        for name in sorted({*left, *right}, key=_order):
            variable = self.settings.program.state[name.split("[")[0]]
            a, b = left.get(name, 0), right.get(name, 0)
            if variable.name in used - {self.settings.mode} and (a or b):
                # What only the VMM owns does not exist on the bare machine; its value there is of no interest
                # unless that is what the guest gets.
                is_absent = claim.theorem is Theorem.EQUIVALENCE and variable.view is None and not b
                yield name, show(a, variable.type), "" if is_absent else show(b, variable.type)

    def _case(
        self, claim: Claim, concrete: Concrete, left: dict[str, int], right: dict[str, int], written: Written
    ) -> dict[str, object]:
        """The case file: the start state as far as it is not that of reset, and the second run's where it differs."""
        state = left | written.registers
        mapping = self._mapping(claim, concrete)
        if mapping is not None:
            state |= {"CR3": mapping.root, "EPT_POINTER": mapping.eptp}
        resets = {v.name: v.reset for v in self.settings.program.state.values()}
        memory = mapping.memory() if mapping is not None else []
        memory += physical_bytes(concrete.bytes_read(claim.left, _PHYSICAL))
        expected = self._other_start(claim, left, right)
        ignored = {"CR3", "EPT_POINTER"} if mapping is not None else set()
        return Case(
            kind="trap",
            id=self.goal_id + f".{claim.theorem}",
            code=written.code,
            instruction=self.symbols.form.instruction.name,
            state={n: v for n, v in state.items() if v != resets[n.split("[")[0]]},
            memory=tuple(memory),
            expected={n: v for n, v in expected.items() if n not in ignored},
            columns=_COLUMNS[claim.theorem],
            text=_WRONG[claim.theorem],
        ).document()

    def _other_start(self, claim: Claim, left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
        """What the replay needs to make the other start state.

        The second run's where it differs from the first's, or what the bare machine has in the place of things that
        the guest does not see; all else there follows from what it sees.
        """
        if claim.theorem is Theorem.CONFIDENTIALITY:
            return {name: value for name, value in right.items() if value != left.get(name)}
        if claim.theorem is Theorem.INTEGRITY:
            return {}
        state = self.settings.program.state
        return {n: v for n, v in right.items() if v and state[n.split("[")[0]].view is None}

    def _mapping(self, claim: Claim, concrete: Concrete) -> Mapping4 | None:
        """Page tables for the linear memory that the run accesses, None if it accesses none."""
        linear = concrete.bytes_read(claim.left, LINEAR)
        if not linear:
            return None
        program = claim.left.evaluator.program
        level = claim.left.evaluator.call(program.functions["cpl"], (), Cursor(claim.left.start, {}), [])
        return Mapping4(linear, user=concrete.number(cast(Value, level)) == 3)


def _order(name: str) -> tuple[int, str]:
    return (0 if name.startswith("GPR") else 1, name)


def _outcome(concrete: Concrete, run: Run) -> str:
    if concrete.holds(run.completes):
        return "completes"
    if concrete.holds(run.faults):
        assert run.fault is not None
        return f"faults: {show_record(concrete, run.fault, run.fault.type)}"
    return "exits"


def _differences(concrete: Concrete, claim: Claim) -> Iterator[tuple[str, str, str]]:
    """The comparisons that fail."""
    for comparison in claim.comparisons:
        if concrete.holds(comparison.condition) and not concrete.holds(comparison.is_equal):
            yield (
                f"{item(comparison.name, concrete.point(comparison.point))} then",
                show_record(concrete, comparison.left, comparison.type),
                show_record(concrete, comparison.right, comparison.type),
            )
