"""Replays a counterexample about a function that accesses memory through a translation, on the reference model.

The calls that translate do what the counterexample says: they lead to frames of the owner, which the reference is asked
about. The run is wrong if it reads, changes or returns another frame all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from checks.case import Case, apply
from checks.function_case import IT_RETURNS
from checks.isolation.open_translation import LANDS, READS, WRITES
from checks.isolation.world import FRAME_WIDTH
from checks.outcome import EXCLUDED
from checks.totality.calls import ScriptedCalls
from refmodel.memory import EndlessMemory
from refmodel.model import Model
from refmodel.vectors import CaseError

_CLAIM = re.compile(r"(\w+)\((\w+), (\d+)\)")
_MEMORY = 1 << 20
_PAGE_BITS = 12


def replay(case: Case, model: Model) -> int:
    """Runs the function: 0 if it reaches what is not the owner's, 1 if it does not.  Raises CaseError."""
    run = _Run(case, model)
    print(f"{case.id}: {case.instruction}")
    for place in run.wrong:
        print(place)
    print(f"CONFIRMED: {case.text}" if run.wrong else "not confirmed: it reaches frames of the owner only")
    return 0 if run.wrong else 1


def outcome(case: Case, model: Model) -> str:
    """That the function returns, if it reaches frames of the owner only.  Raises CaseError."""
    return EXCLUDED if _Run(case, model).wrong else IT_RETURNS


class _Watched(EndlessMemory):
    """Memory that notes the addresses of the words that are read and written."""

    __slots__ = ("read_at", "written_at")

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.read_at: list[int] = []
        self.written_at: list[int] = []

    def read_64(self, address: int) -> int:
        self.read_at.append(address)
        return super().read_64(address)

    def write_64(self, address: int, value: int) -> None:
        self.written_at.append(address)
        super().write_64(address, value)


class _Run:
    """A run of the case's function.  `wrong` says what breaks the claim, in words."""

    def __init__(self, case: Case, model: Model) -> None:
        self.case, self.model = case, model
        self.start, self.machine = self._fresh(), self._fresh()
        self.calls = ScriptedCalls(case, model, self._watch)
        claim = _CLAIM.fullmatch(self.calls.claim)
        if claim is None or claim[1] not in _REACHED or claim[2] not in model.functions:
            raise CaseError(f"not a claim about a translation: '{self.calls.claim}'")
        self.predicate, self.owner = model.functions[claim[2]], int(claim[3])
        if self.calls.run(self.machine) is not None:
            raise CaseError(f"{self.calls.name} does not return here")
        self.wrong = [text for frame, text in _REACHED[claim[1]](self) if not self._owns(frame)]

    def _fresh(self) -> Any:
        machine = self.model.machine(_Watched(_MEMORY))
        apply(self.case, machine, self.model)
        return machine

    def _owns(self, frame: int) -> bool:
        return bool(self.predicate(self.start, self.owner, frame))

    def _watch(self, _machine: Any, name: str, _arguments: tuple[Any, ...]) -> None:
        """What the theorem takes for granted of a call: it leads to a frame of the owner."""
        place = self.case.expected.get(f"{self.calls.made}: result")
        if place is not None and not self._owns(place >> _PAGE_BITS):
            raise CaseError(f"{name} leads to {place:#x} here, which is not the owner's")


_Reached = Callable[[_Run], Iterable[tuple[int, str]]]
"""The frames that a claim is about, each with what the run did to it."""


def _read(run: _Run) -> Iterable[tuple[int, str]]:
    return ((at >> _PAGE_BITS, f"reads {at:#x}") for at in run.machine.PHYSICAL.read_at)


def _changed(run: _Run) -> Iterable[tuple[int, str]]:
    before, after = run.start.PHYSICAL, run.machine.PHYSICAL
    for at in dict.fromkeys(after.written_at):
        if before.read_64(at) != after.read_64(at):
            yield at >> _PAGE_BITS, f"writes {after.read_64(at):#x} to {at:#x}"


def _landed(run: _Run) -> Iterable[tuple[int, str]]:
    yield run.calls.result & (1 << FRAME_WIDTH) - 1, f"returns frame {run.calls.result:#x}"


_REACHED: dict[str, _Reached] = {READS: _read, WRITES: _changed, LANDS: _landed}
