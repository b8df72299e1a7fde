"""Explains refutations of theorems, above all about an instruction form, with a case that `nonroot replay` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol, cast

import z3

from checks.case import Case
from checks.symbolic.expressions import Touched
from checks.symbolic.paths import Cursor
from checks.symbolic.state import State
from checks.symbolic.values import Value
from checks.trap.concrete import Concrete, Written, item, write_instruction
from checks.trap.contract import LINEAR
from checks.trap.explain import Explainer, Sides
from checks.trap.initial import BareSource
from checks.trap.mapping import Mapping4, physical_bytes
from checks.trap.operands import OperandSymbols
from checks.trap.runs import Settings
from checks.trap.theorems import Claim, Theorem
from refmodel.encoder import Encoder

PHYSICAL = "PHYSICAL"


class Tools(Protocol):
    """What is made only once there is a counterexample."""

    @property
    def encoder(self) -> Encoder:
        """Writes instructions."""
        ...


@dataclass(slots=True)
class CaseExplainer(Explainer):
    """Explains refutations with a case; `name` is the goal's id without the theorem."""

    name: str

    kind: ClassVar[str] = "trap"

    def goal(self, claim: Claim) -> str:
        """The id of the goal that the claim is."""
        return f"{self.name}.{claim.theorem}"

    def other_state(self, sides: Sides) -> dict[str, int]:  # noqa: ARG002 - for subclasses
        """What the start state has besides registers and VMCS fields."""
        return {}

    def case(
        self, sides: Sides, what: str, written: Written, arguments: Mapping[str, int] = MappingProxyType({})
    ) -> dict[str, object]:
        """The case file: the start state as far as it is not that of reset, and the second run's where it differs.

        `what` is run: an instruction, or a function with `arguments`.
        """
        claim, state = (
            sides.claim,
            sides.left | seen_items(sides.concrete, self.settings) | self.other_state(sides),
        )
        state |= written.registers
        wrong, columns = self.wording(claim)
        mapping = self._mapping(sides)
        if mapping is not None:
            state |= {"CR3": mapping.root, "EPT_POINTER": mapping.eptp}
        resets = {v.name: v.reset for v in self.settings.program.state.values()}
        memory = mapping.memory() if mapping is not None else []
        memory += physical_bytes(sides.concrete.bytes_read(claim.left, PHYSICAL))
        expected = self._other_start(sides)
        ignored = {"CR3", "EPT_POINTER"} if mapping is not None else set()
        return Case(
            kind=self.kind,
            id=self.goal(claim),
            code=written.code,
            instruction=what,
            state={n: v for n, v in state.items() if v != resets[n.split("[")[0]]},
            memory=tuple(memory),
            expected={n: v for n, v in expected.items() if n not in ignored} | dict(arguments),
            columns=columns,
            text=wrong,
        ).document()

    def _other_start(self, sides: Sides) -> dict[str, int]:
        """What the replay needs to make the other start state.

        The second run's where it differs from the first's, or what the bare machine has in the place of things that
        the guest does not see; all else there follows from what it sees.
        """
        if sides.claim.theorem is Theorem.CONFIDENTIALITY:
            return {n: v for n, v in sides.right.items() if v != sides.left.get(n)}
        if sides.claim.theorem is Theorem.INTEGRITY:
            return {}
        state = self.settings.program.state
        return {n: v for n, v in sides.right.items() if v and state[n.split("[")[0]].view is None}

    def _mapping(self, sides: Sides) -> Mapping4 | None:
        """Page tables for the linear memory that the run accesses, None if it accesses none."""
        run = sides.claim.left
        linear = sides.concrete.bytes_read(run, LINEAR)
        if not linear:
            return None
        level = run.evaluator.call(self.settings.program.functions["cpl"], (), Cursor(run.start, {}), [])
        return Mapping4(linear, user=sides.concrete.number(cast(Value, level)) == 3)


@dataclass(slots=True)
class FormExplainer(CaseExplainer):
    """Explains refutations of the claims about one form."""

    operands: OperandSymbols
    tools: Tools

    def symbols(self) -> tuple[Value, ...]:
        """The operands' symbols."""
        operands = self.operands
        return (*operands.numbers.values(), *operands.values.values(), *operands.addresses.values())

    def minimise(self, claim: Claim) -> tuple[z3.ExprRef, ...]:
        """Code in 64-bit mode, if it can be, and then as everywhere."""
        distance = self.settings.terms.arithmetic("^", self.operands.code_size, 64, 64)
        rest = Explainer.minimise(self, claim)
        return (distance, *rest) if isinstance(distance, z3.ExprRef) else rest

    def shown(self, sides: Sides) -> tuple[str, dict[str, object] | None]:
        """Bytes and text of the instruction, and the case."""
        run, rip = sides.claim.left, sides.left["RIP"]
        written = write_instruction(self.tools.encoder, sides.concrete, self.operands, run, rip)
        if written is None:
            return self.operands.form.name, None
        name = self.operands.form.instruction.name
        return f"{written.code.hex(' ')}  {written.text}", self.case(sides, name, written)


def seen_items(concrete: Concrete, settings: Settings) -> dict[str, int]:
    """The variables of the VMM that the guest sees in the place of registers: the bare machine has their values."""
    source = settings.bare.surroundings.source
    if not isinstance(source, BareSource):
        return {}
    return vmm_items(concrete, source.seen, source.evaluator.touched)


def vmm_items(concrete: Concrete, state: State, touched: Touched) -> dict[str, int]:
    """The variables of the VMM that were used of a state, by item."""
    found: dict[str, int] = {}
    for variable in state.surroundings.program.state_in("state"):
        if variable.name in touched.names:
            elements = state.elements(variable.name) if variable.indices else None
            for point in touched.points.get(variable.name, {"": ()}).values():
                value = elements.read(point) if elements is not None else state.get(variable.name)
                found[item(variable.name, concrete.point(point))] = concrete.number(value)
    return found
