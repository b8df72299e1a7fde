"""Runs guests with the VMM natively: plain instructions in the fast model, all else in the compiled reference."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from fastmodel import controls, state
from fastmodel.block import Block
from fastmodel.engine import FastEngine
from fastmodel.reference.compiled import Compiled, uninterrupted
from fastmodel.reference.copies import MachineCopy
from fastmodel.reference.layout import CONTROL_WORDS, MOST_OUTPUTS, OFFSET, OUTPUT_WORDS
from fastmodel.reference.purpose import GUESTS
from refmodel.model import Model

MOST_CONTROLS = 64
CONTROL_SIZE = CONTROL_WORDS + len(controls.DECIDING)  # words
PATIENCE = 1 << 13  # steps of the compiled reference until Ctrl-C is noticed, and output shown
NEVER = 1 << 62


class Stop(IntEnum):
    """Why native code returned (reference/guests.ll)."""

    ENOUGH = 0
    LEFT_TO_PYTHON = 1
    UNKNOWN_CONTROLS = 2
    SAMPLE = 3
    PATIENCE = 4


class GuestEngine:
    """Runs what `Session.step` does again and again, for the machine of a session.

    Translations, decoded instructions and translated code are kept as in `FastEngine`. Raises ImportError without
    llvmlite.
    """

    def __init__(self, model: Model, machine: Any, *, translates: bool = True) -> None:
        self._machine = machine
        self._fast = FastEngine(model.program, machine, "native", translates=translates)
        self._compiled = Compiled(model, machine, GUESTS)
        self._block = self._compiled.block
        self._copy = MachineCopy(self._compiled, machine)
        self._run = self._compiled.function("run_guests", 3)
        self._kept = self._compiled.allocate(self._compiled.layout.lists)
        self._outputs = (ctypes.c_uint64 * (OUTPUT_WORDS * MOST_OUTPUTS))()
        self._controls = (ctypes.c_uint64 * (CONTROL_SIZE * MOST_CONTROLS))()
        self._names = [(name, len(o.parameters)) for name, o in model.program.outputs.items()]
        self._known: list[Block | None] = []  # the fast model's block for each of the controls
        self._times_emptied = 0
        header = {
            "OUTPUTS": ctypes.addressof(self._outputs),
            "CONTROLS": ctypes.addressof(self._controls),
            "RUN": self._fast.address("run_registers"),
        }
        for name, value in header.items():
            self._block.put(OFFSET[name], value)

    def run(self, steps: int) -> int:
        """Makes up to `steps` steps; returns how many.  If these are fewer, the next one is the Python model's."""
        if not self._copy.has_room():
            return 0
        done = 0
        with self._taken():
            stop = Stop.PATIENCE
            while stop not in (Stop.ENOUGH, Stop.LEFT_TO_PYTHON):
                self._block.put(OFFSET["PATIENCE"], PATIENCE)
                with uninterrupted():
                    done += self._run(self._block.address, self._kept, steps - done)
                self._compiled.decoded.raise_failure()
                self._tell()
                stop = Stop(self._block.get(OFFSET["STOP"]))
                if stop is Stop.UNKNOWN_CONTROLS:
                    self._learn_controls()
                elif stop is Stop.SAMPLE:
                    self._sample()
        return done

    # --- between two pieces of a run --------------------------------------------------------------

    def _tell(self) -> None:
        """Passes on what guests have printed, and the like."""
        count = self._block.get(OFFSET["OUTPUT_COUNT"])
        self._block.put(OFFSET["OUTPUT_COUNT"], 0)
        for n in range(0, count * OUTPUT_WORDS, OUTPUT_WORDS):
            number, *arguments = self._outputs[n : n + OUTPUT_WORDS]
            name, count_of = self._names[number]
            listener = self._machine.listeners.get(name)
            if listener is not None:
                listener(*arguments[:count_of])

    def _learn_controls(self) -> None:
        """Notes what the present state of the control registers means for the fast model."""
        self._copy.give()
        machine = self._machine
        block = self._fast.enter_space() if controls.is_supported(machine) else None
        if self._fast.times_emptied != self._times_emptied or len(self._known) == MOST_CONTROLS:
            self._times_emptied = self._fast.times_emptied
            self._known.clear()
        entry = len(self._known) * CONTROL_SIZE
        self._known.append(block)
        known = (
            block.address if block else 0,
            controls.refused_flags(machine),
            controls.counts_down(machine),
        )
        layout = self._compiled.layout
        deciding = [self._block.get(layout.element(name, index)) for name, index in controls.DECIDING]
        self._controls[entry : entry + CONTROL_SIZE] = [*known, *deciding]
        self._block.put(OFFSET["CONTROL_COUNT"], len(self._known))
        if block is not None and block.translator is None:
            block.set(state.UNTIL_SAMPLE, NEVER)

    def _sample(self) -> None:
        """Lets the translator see where the guest is."""
        offset = self._block.get(OFFSET["CONTROL"]) - ctypes.addressof(self._controls)
        block = self._known[offset // (8 * CONTROL_SIZE)]
        if block is not None:
            block.set(state.UNTIL_SAMPLE, block.translator.sample() if block.translator else NEVER)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """The machine is copied in, and back in the end."""
        self._copy.take()
        try:
            yield
        finally:
            self._copy.give()
