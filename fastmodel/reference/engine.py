"""Runs short cases on the compiled reference, from the state of a machine of the Python model."""

from __future__ import annotations

import ctypes
from array import array
from typing import Any

from fastmodel.reference.block import vmcs_fields
from fastmodel.reference.compiled import Compiled, uninterrupted
from fastmodel.reference.purpose import CASES
from fastmodel.rows import ROW_WORDS
from refmodel.model import Model


class CompiledReference:
    """The reference, compiled: cases begin in the state of `machine`, which stays as it is, but for its memory.

    Raises ImportError without llvmlite.
    """

    def __init__(self, model: Model, machine: Any) -> None:
        self._machine = machine
        self._compiled = Compiled(model, machine, CASES)
        self._fields = vmcs_fields(self._compiled.layout)
        self._scratch = ctypes.create_string_buffer(self._compiled.layout.size)
        self._run = self._compiled.function("run_cases", 4)
        self.take_state()

    def take_state(self) -> None:
        """Cases begin in the present state of the machine from now on."""
        layout, block = self._compiled.layout, self._compiled.block
        block.take()
        self._fields.take(self._machine.vmcs, memoryview(block.data)[layout.vmcs : layout.lists])

    def run_cases(self, rows: array[int]) -> None:
        """Runs the cases in place (fastmodel/rows.py).

        A row's reason is 0 if all its instructions completed, else the number of the abort that ended it, from 1 on
        in the specification's order, or LEFT_TO_PYTHON.
        """
        address, length = rows.buffer_info()
        if rows.itemsize != 8 or length % ROW_WORDS:
            raise ValueError(f"rows are {ROW_WORDS} words of 64 bits each")
        decoded = self._compiled.decoded
        decoded.make_room()
        with uninterrupted():
            pristine = self._compiled.block.address
            self._run(ctypes.addressof(self._scratch), pristine, address, length // ROW_WORDS)
        decoded.raise_failure()

    def carried(self, kind: str) -> list[int]:
        """What the abort of this kind carried that ended the latest case, field by field."""
        words = memoryview(self._scratch).cast("B").cast("Q")
        return [words[leaf.offset // 8] for leaf in self._compiled.layout.aborts[kind]]
