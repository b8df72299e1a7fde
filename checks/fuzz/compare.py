"""Runs a case on two engines side by side and says where they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from checks.case import Case, apply
from checks.fuzz.bases import CODE, PAGE_SIZE, Bases
from checks.fuzz.engines import DONE, EXITED, NOT_MODELLED, REFUSED, Cycle, Factory, ReferenceEngine, Step
from checks.fuzz.undefined import inverted
from grammar.ir import StateVariable
from refmodel.model import Model, build

_MEMORY = "PHYSICAL"
_SCRATCH = frozenset({"NEXT_RIP"})  # registers that mean nothing between two instructions
_CODE_RANGE = range(CODE, CODE + 2 * PAGE_SIZE)


@dataclass(frozen=True)
class Difference:
    """An item that two engines leave with different values, apart from the bits that are undefined."""

    item: str
    reference: int
    tested: int


@dataclass(frozen=True)
class Divergence:
    """A case on whose last step two engines differ, and where."""

    case: Case
    differences: tuple[Difference, ...]


@dataclass
class Tally:
    """What the cases so far were: how many instructions the tested engine executed, and how many it refused."""

    executed: int = 0
    refused: int = 0
    not_modelled: int = 0


class Comparison:
    """Two engines and what is needed to compare them."""

    def __init__(self, model: Model, tested: Factory, reference: Factory = ReferenceEngine) -> None:
        self.model = model
        self.tested = tested(model)
        self.reference = reference(model)
        self.tally = Tally()
        self._bases = Bases(model)
        self._cycle = Cycle(model)
        self._registers = tuple(v for v in model.program.state_in("register") if v.name not in _SCRATCH)
        self._fields = tuple(variable.name for variable in model.program.state_in("vmcs"))
        self._inverted: ReferenceEngine | None = None

    def run(self, case: Case) -> Divergence | None:
        """The first difference, None if there is none.  Raises CaseError if the case does not fit the machine."""
        self.prepare(self.tested.machine, case)
        self.prepare(self.reference.machine, case)
        for step in range(1, case.steps + 1):
            outcomes = self._step()
            if NOT_MODELLED in outcomes:
                self.tally.not_modelled += 1
                return None
            found = tuple(self._differences(outcomes))
            if found:
                defined = self._without_undefined(case, step, found)
                return self._divergence(case, step, defined) if defined else None
            if EXITED in outcomes or self.reference.machine.RIP not in _CODE_RANGE:
                return None
        return None

    def _divergence(self, case: Case, step: int, found: tuple[Difference, ...]) -> Divergence:
        """Cuts the case off after the step that differs, whose instruction it is named by."""
        decoded = self.reference.machine.current
        instruction = (
            decoded.instruction.name if decoded is not None and decoded.instruction is not None else ""
        )
        names = self.reference.name, self.tested.name
        cut = replace(
            case,
            steps=step,
            instruction=instruction,
            expected={difference.item: difference.tested for difference in found},
            columns=names,
            text=f"{names[1]} differs from {names[0]} in {', '.join(difference.item for difference in found)}",
        )
        return Divergence(cut, found)

    def prepare(self, machine: Any, case: Case) -> None:
        """Puts a machine into the start state of a case."""
        self._bases.prepare(machine, case.base)
        apply(case, machine, self.model)
        machine.PHYSICAL.write_bytes(machine.RIP, case.code)

    def _step(self) -> tuple[Step, Step]:
        """One instruction on both; what the tested engine refuses, the reference does on its machine too."""
        tested = self.tested.step()
        if tested == REFUSED:
            self.tally.refused += 1
            tested = self._cycle(self.tested.machine)
        else:
            self.tally.executed += 1
        return tested, self.reference.step()

    def _differences(self, outcomes: tuple[Step, Step]) -> Iterator[Difference]:
        tested, reference = outcomes
        if tested != reference:
            yield Difference("VM exit", int(reference == EXITED), int(tested == EXITED))
        yield from differences(self.reference.machine, self.tested.machine, self._registers)
        yield from _memory_differences(self.reference.machine, self.tested.machine)
        for name in self._fields:
            left, right = getattr(self.reference.machine.vmcs, name), getattr(self.tested.machine.vmcs, name)
            if left != right:
                yield Difference(name, int(left), int(right))

    def _without_undefined(
        self, case: Case, step: int, found: tuple[Difference, ...]
    ) -> tuple[Difference, ...]:
        """What remains of the differences when the undefined bits are left out."""
        if self._inverted is None:
            key = hashlib.sha256(self.model.text.encode()).hexdigest()
            self._inverted = ReferenceEngine(build(inverted(self.model.program), f"{key}-inverted"))
        machine = self._inverted.machine
        self.prepare(machine, case)
        for _ in range(step):
            if self._inverted.step() != DONE:
                break
        undefined = {
            difference.item: difference.reference ^ difference.tested
            for difference in (
                *differences(self.reference.machine, machine, self._registers),
                *_memory_differences(self.reference.machine, machine),
            )
        }
        return tuple(
            difference
            for difference in found
            if (difference.reference ^ difference.tested) & ~undefined.get(difference.item, 0)
        )


def differences(left: Any, right: Any, variables: tuple[StateVariable, ...]) -> Iterator[Difference]:
    """The registers in which two machines differ, `left` being the reference."""
    for variable in variables:
        name = variable.name
        first, second = getattr(left, name), getattr(right, name)
        if first == second:
            continue
        if not variable.indices:
            yield Difference(name, int(first), int(second))
            continue
        keys = range(len(first)) if isinstance(first, list) else sorted({*first, *second})
        for key in keys:
            if first[key] != second[key]:
                index = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
                yield Difference(f"{name}[{index}]", int(first[key]), int(second[key]))


def _memory_differences(left: Any, right: Any) -> Iterator[Difference]:
    """The 64-bit words of memory in which two machines differ."""
    first, second = left.PHYSICAL, right.PHYSICAL
    if first.data[:] == second.data[:]:
        return
    for page in range(0, first.size, PAGE_SIZE):
        if first.read_bytes(page, PAGE_SIZE) == second.read_bytes(page, PAGE_SIZE):
            continue
        for address in range(page, page + PAGE_SIZE, 8):
            a, b = first.read_64(address), second.read_64(address)
            if a != b:
                yield Difference(f"{_MEMORY}[{address:#x}]", a, b)
