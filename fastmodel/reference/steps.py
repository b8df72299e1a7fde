"""Single steps of the compiled reference, for comparing it: each on the state of a machine of the Python model."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

from fastmodel.reference.compiled import JOURNAL_LENGTH, Compiled, uninterrupted
from fastmodel.reference.copies import MachineCopy
from fastmodel.reference.layout import MOST_OUTPUTS, OFFSET, OUTPUT_WORDS
from fastmodel.reference.purpose import GUESTS
from refmodel.model import Model


class Made(IntEnum):
    """How a step ended (reference/guests.ll)."""

    LEFT_TO_PYTHON = 0  # nothing happened
    DONE = 1
    NO_GUEST_LEFT = 2


class CompiledSteps:
    """Makes steps of `machine`, with native code alone.  Raises ImportError without llvmlite."""

    def __init__(self, model: Model, machine: Any) -> None:
        self._machine = machine
        self._compiled = Compiled(model, machine, GUESTS)
        self._copy = MachineCopy(self._compiled, machine)
        self._kept = self._compiled.allocate(self._compiled.layout.lists)
        self._outputs = self._compiled.allocate(8 * OUTPUT_WORDS * MOST_OUTPUTS)
        self._compiled.block.put(OFFSET["OUTPUTS"], self._outputs)
        self._run = self._compiled.function("single_step", 3)

    def step(self, *, of_guest: bool) -> Made:
        """An instruction with the event that it raises; of a guest, with its VM exit and what the VMM does then, or a
        VM entry.
        """
        if not self._copy.has_room():
            return Made.LEFT_TO_PYTHON
        block = self._compiled.block
        self._copy.take()
        block.put(OFFSET["OUTPUT_COUNT"], 0)
        with uninterrupted():
            made = Made(self._run(block.address, self._kept, int(of_guest)))
        self._compiled.decoded.raise_failure()
        if made is not Made.LEFT_TO_PYTHON:
            self._copy.give()
            self._note_writes()
        return made

    def _note_writes(self) -> None:
        """Tells memory what the words that were written held before; the journal has those of variables too."""
        block, memory = self._compiled.block, self._machine.PHYSICAL
        count = min(block.get(OFFSET["JOURNAL_COUNT"]), JOURNAL_LENGTH)
        journal = (ctypes.c_uint64 * (2 * count)).from_address(block.get(OFFSET["JOURNAL"]))
        for address, before in zip(journal[::2], journal[1::2], strict=True):
            if address < memory.size:
                memory.note(address, before.to_bytes(8, "little"))
