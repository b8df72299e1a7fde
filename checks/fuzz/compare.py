"""Runs a case on an engine and on the reference side by side and says where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from checks.case import Case, Place, place_of
from checks.fuzz.bases import BASES, CODE, PAGE_SIZE, TABLE_RANGES, Bases
from checks.fuzz.cycle import DONE, ENTRY, EXITED, FAULT, NOT_MODELLED, REFUSED, Step
from checks.fuzz.difference import NONE, Difference, Divergence
from checks.fuzz.engines import Factory, ReferenceEngine, RunsAtOnce
from checks.fuzz.known import Known, known_faults
from checks.fuzz.snapshot import Snapshot, View, differences
from checks.fuzz.undefined import Inverted
from refmodel.model import Model
from refmodel.vectors import CaseError

_CODE_RANGE = range(CODE, CODE + 2 * PAGE_SIZE)
_MOST_DECODED = 20_000  # decoded instructions that are remembered; fuzzing decodes ever new ones


@dataclass
class Tally:
    """What the cases so far were: how many instructions the tested engine executed, and how many it refused.

    `known` counts the differences that are known, by the id of what explains them.
    """

    executed: int = 0
    refused: int = 0
    not_modelled: int = 0
    known: Counter[str] = field(default_factory=Counter)


class Comparison:
    """An engine, the reference, and what is needed to compare them."""

    def __init__(self, model: Model, tested: Factory) -> None:
        self.model = model
        self.tested = tested(model)
        self.reference = ReferenceEngine(model, self.tested.cycle)
        self.tally = Tally()
        self.differs_where_undefined = False  # whether the last case differed, but only in undefined bits
        self.known: tuple[Known, ...] = known_faults(self.tested.name, model.program)
        self._bases = Bases(model)
        self._view = View(model.program)
        self._snapshots: dict[int, tuple[str, Snapshot]] = {}
        self._places: dict[str, Place] = {}
        self._undefined = Inverted(model, self.tested.cycle)

    def run(self, case: Case) -> Divergence | None:
        """The first difference, None if there is none.  Raises CaseError if the case does not fit the machine.

        A difference that is known is counted, and ends the case.
        """
        return self.count_known(self.examine(case))

    def count_known(self, divergence: Divergence | None) -> Divergence | None:
        """A difference, if it is not known."""
        if divergence is not None and divergence.known:
            self.tally.known[divergence.known] += 1
            return None
        return divergence

    def decide(self, case: Case) -> Divergence | None:
        """The first difference, known or not: one by one, and if there is none, of several instructions at once."""
        return self.examine(case) or self._examine_at_once(case)

    def _examine_at_once(self, case: Case) -> Divergence | None:
        """The fewest instructions that leave something else when the tested engine executes them in one call."""
        if not isinstance(self.tested, RunsAtOnce):
            return None
        for steps in range(1, case.steps + 1):
            self.prepare(self.tested.machine, case)
            self.prepare(self.reference.machine, case)
            done = self.tested.run(steps)
            if any(self.reference.step() != DONE for _ in range(done)):
                return None
            found = tuple(differences(self.reference.machine, self.tested.machine, self._view))
            if found:
                defined = self._without_undefined(case, done, found) if done else found
                divergence = self._divergence(case, done, defined) if defined else None
                return divergence and replace(divergence, case=replace(divergence.case, steps=steps))
        return None

    def examine(self, case: Case) -> Divergence | None:
        """The first difference, known or not, after one instruction and the next."""
        self.differs_where_undefined = False
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
                self.differs_where_undefined = not defined
                return self._divergence(case, step, defined) if defined else None
            if outcomes != (DONE, DONE) or self.reference.machine.RIP not in _CODE_RANGE:
                return None
        return None

    def prepare(self, machine: Any, case: Case) -> None:
        """Puts a machine into the start state of a case."""
        self._start(machine, case.base)
        for name, value in case.state.items():
            place = self._places.get(name)
            if place is None:
                place = self._places[name] = place_of(self.model.program, name)
            place.set(machine, value)
        for address, data in case.memory:
            machine.PHYSICAL.write_bytes(address, data)
        machine.PHYSICAL.write_bytes(machine.RIP, case.code)
        self._snapshots[id(machine)][1].forget_stale(TABLE_RANGES)

    def _start(self, machine: Any, base: str) -> None:
        """Puts a machine into the state of a base: what a case changed is undone, if the base is still the same."""
        known, snapshot = self._snapshots.get(id(machine), ("", None))
        if snapshot is not None and known == base:
            snapshot.restore(TABLE_RANGES)
            return
        if base not in BASES:
            raise CaseError(f"there is no base '{base}'; the bases are {', '.join(BASES)}")
        self._bases.prepare(machine, base)
        self._snapshots[id(machine)] = (base, Snapshot(machine, self._view))
        for decoder in machine.decoders.values():
            if len(decoder.known) > _MOST_DECODED:
                decoder.known.clear()

    def _step(self) -> tuple[Step, Step]:
        """One instruction on both; what the tested engine refuses, the reference does on its machine too."""
        tested = self.tested.step()
        if tested == REFUSED:
            self.tally.refused += 1
            tested = self.tested.cycle(self.tested.machine)
        else:
            self.tally.executed += 1
        return tested, self.reference.step()

    def _differences(self, outcomes: tuple[Step, Step]) -> Iterator[Difference]:
        tested, reference = outcomes
        if tested != reference:
            yield from _outcome_differences(reference, tested)
        yield from differences(self.reference.machine, self.tested.machine, self._view)

    def _divergence(self, case: Case, step: int, found: tuple[Difference, ...]) -> Divergence:
        """Cuts the case off after the step that differs, whose instruction it is named by."""
        decoded = self.reference.machine.current
        instruction = decoded.instruction if decoded is not None else None
        name = instruction.name if instruction is not None else ""
        names = self.reference.name, self.tested.name
        cut = replace(
            case,
            steps=step,
            instruction=name,
            expected={difference.item: difference.tested for difference in found},
            columns=names,
            text=f"{names[1]} differs from {names[0]} in {', '.join(difference.item for difference in found)}",
        )
        code = decoded.data if decoded is not None else b""
        known = next((k.id for k in self.known if k.explains(name, code, found)), "")
        return Divergence(cut, found, known)

    def _without_undefined(
        self, case: Case, step: int, found: tuple[Difference, ...]
    ) -> tuple[Difference, ...]:
        """What remains of the differences when the undefined bits are left out."""
        machine = self._undefined.machine
        self.prepare(machine, case)
        for _ in range(step - 1):
            self.reference.cycle(machine)
        self._undefined.step(machine)
        undefined = {
            difference.item: difference.reference ^ difference.tested
            for difference in differences(self.reference.machine, machine, self._view)
        }
        return tuple(
            difference
            for difference in found
            if (difference.reference ^ difference.tested) & ~undefined.get(difference.item, 0)
        )


def _outcome_differences(reference: Step, tested: Step) -> Iterator[Difference]:
    if EXITED in (reference, tested):
        yield Difference("VM exit", int(reference == EXITED), int(tested == EXITED))
    if tested.startswith(ENTRY):
        passes = int(tested.removeprefix(ENTRY))
        yield Difference("VM entry", 1 - passes, passes)
    if reference.startswith(FAULT) or tested.startswith(FAULT):
        yield Difference("fault", _vector(reference), _vector(tested))


def _vector(step: Step) -> int:
    return int(step.removeprefix(FAULT)) if step.startswith(FAULT) else NONE
