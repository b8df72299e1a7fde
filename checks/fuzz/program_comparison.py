"""Runs a program on the fast model, many instructions at a time, and on the reference; they meet where the first stops.

At every VM exit and at the end all of both machines is compared, in between registers only. After a VM exit the program
goes on behind its instruction, as if the VMM had skipped it, or at R15 if no instruction caused it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from checks.case import Case, place_of
from checks.fuzz.bases import BASES, MEMORY_SIZE, Bases
from checks.fuzz.cycle import DONE, EXITED, NOT_MODELLED, Cycle
from checks.fuzz.difference import Difference, Divergence
from checks.fuzz.programs import PROGRAM, Programs
from checks.fuzz.snapshot import View, register_differences
from checks.fuzz.undefined import Inverted
from refmodel.model import Model
from refmodel.vectors import CaseError

__all__ = ["PROGRAM", "ProgramComparison", "ProgramRuns"]

BATCH = 4  # programs
_R15 = 15
_MOST_AT_ONCE = 64  # instructions that the fast model runs before the machines are compared


@dataclass
class _Run:
    """A program in the middle: both machines, the fast model of the first, and how many steps were made."""

    tested: Any
    reference: Any
    engine: Any
    done: int = 0


@dataclass
class ProgramTally:
    """What programs came to; `undefined` differed only by what is undefined."""

    programs: int = 0
    instructions: int = 0
    vm_exits: int = 0
    undefined: int = 0


class ProgramComparison:
    """The fast model and the reference, for programs."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tally = ProgramTally()
        self._bases = Bases(model)
        self._view = View(model.program)
        self._cycle = Cycle(model)
        self._inverted = Inverted(model, self._cycle)

    def examine(self, case: Case) -> Divergence | None:
        """The first difference, None if there is none.  Raises CaseError if the case does not fit the machine."""
        from fastmodel import FastEngine

        tested = self._machine(case)
        run = _Run(tested, self._machine(case), FastEngine(self.model.program, tested))
        while run.done < case.steps:
            outcome, found = self._advance(run, case.steps - run.done)
            if found:
                return self._judge(case, run.done, found)
            if outcome == EXITED:
                self.tally.vm_exits += 1
                _go_on(run.reference)
                _go_on(run.tested)
            if outcome == NOT_MODELLED:
                break
        self.tally.programs += 1
        self.tally.instructions += run.done
        return None

    def _machine(self, case: Case) -> Any:
        """A machine at the start of a case; a new one each time, so that nothing is remembered."""
        if case.base not in BASES:
            raise CaseError(f"there is no base '{case.base}'; the bases are {', '.join(BASES)}")
        machine = self.model.machine(MEMORY_SIZE)
        self._bases.prepare(machine, case.base)
        for name, value in case.state.items():
            place_of(self.model.program, name).set(machine, value)
        for address, data in case.memory:
            machine.PHYSICAL.write_bytes(address, data)
        machine.PHYSICAL.write_bytes(machine.RIP, case.code)
        return machine

    def _advance(self, run: _Run, most: int) -> tuple[str, tuple[Difference, ...]]:
        """Runs the fast model until it stops, and the reference as far; how the last step ended, and what differs."""
        count = run.engine.run(min(most, _MOST_AT_ONCE))
        for n in range(count):
            if self._cycle(run.reference) != DONE:
                run.done += n + 1
                return DONE, (Difference("steps", n, count),)
        run.done += count
        outcome = DONE
        if count < min(most, _MOST_AT_ONCE):
            outcome, other = self._cycle(run.reference), self._cycle(run.tested)
            run.done += 1
            if outcome != other:
                return outcome, (Difference("VM exit", int(outcome == EXITED), int(other == EXITED)),)
        is_whole = outcome != DONE or count == most
        return outcome, tuple(self._differences(run.reference, run.tested, whole=is_whole))

    def _differences(self, left: Any, right: Any, *, whole: bool) -> Iterator[Difference]:
        yield from register_differences(left, right, self._view)
        if whole and left.PHYSICAL.data[:] != right.PHYSICAL.data[:]:
            for address in range(0, MEMORY_SIZE, 8):
                a, b = left.PHYSICAL.read_64(address), right.PHYSICAL.read_64(address)
                if a != b:
                    yield Difference(f"PHYSICAL[{address:#x}]", a, b)

    def _judge(self, case: Case, steps: int, found: tuple[Difference, ...]) -> Divergence | None:
        """None if the reference itself could have come to something else, by what is undefined."""
        plain, other = self._machine(case), self._machine(case)
        for _ in range(steps):
            if self._cycle(plain) == EXITED:
                _go_on(plain)
            if self._inverted.step(other) == EXITED:
                _go_on(other)
        open_items = {difference.item for difference in self._differences(plain, other, whole=True)}
        if {difference.item for difference in found} <= open_items:
            self.tally.undefined += 1
            return None
        cut = replace(
            case,
            steps=steps,
            columns=("reference", "fast"),
            expected={difference.item: difference.tested for difference in found},
            text=f"fast differs from reference in {', '.join(difference.item for difference in found)}"[:200],
        )
        return Divergence(cut, found)


def _go_on(machine: Any) -> None:
    """What a VMM might do about a VM exit."""
    machine.RIP = machine.NEXT_RIP if machine.NEXT_RIP != machine.RIP else machine.GPR[_R15]


class ProgramRuns:
    """A few programs at a time.  `are_all` says that a campaign runs nothing else."""

    def __init__(self, comparison: ProgramComparison, source: Programs, *, are_all: bool) -> None:
        self.comparison = comparison
        self.source = source
        self.are_all = are_all
        self._batch = 0

    def batch(self, seed: int) -> list[Case]:
        """The next programs of a campaign with this seed."""
        self._batch += 1
        return self.source.batch(Random(f"{seed} programs {self._batch}"), BATCH)

    def examine(self, case: Case) -> Divergence | None:
        """The first difference."""
        return self.comparison.examine(case)
