"""The VMCSs of a machine: the current one lies in the state block, the others here."""

from __future__ import annotations

import ctypes
from typing import Any

from fastmodel.reference.block import WORD, StateBlock, Values, vmcs_fields
from fastmodel.reference.layout import MOST_VMCS, OFFSET, Layout

PRESENT = (1).to_bytes(WORD, "little")


class VmcsStore:
    """A slot for each VMCS: a word that is 1 if it is there, then its fields."""

    def __init__(self, layout: Layout, block: StateBlock, machine: Any) -> None:
        self._layout = layout
        self._block = block
        self._machine = machine
        self._size = WORD + layout.lists - layout.vmcs
        self._slots = bytearray(self._size * MOST_VMCS)
        self._values: dict[int, Values] = {}
        block.put(OFFSET["VMCS_STORE"], ctypes.addressof(ctypes.c_char.from_buffer(self._slots)))

    def has_room(self) -> bool:
        """Whether all numbers in use are those of slots."""
        return all(number < MOST_VMCS for number in self._machine.vmcs_of)

    def take(self) -> None:
        """Copies all in."""
        for number, vmcs in self._machine.vmcs_of.items():
            if number not in self._values:
                self._values[number] = vmcs_fields(self._layout)
                self._slots[number * self._size : number * self._size + WORD] = PRESENT
            if vmcs is self._machine.vmcs:
                self._block.put(OFFSET["VMCS_NUMBER"], number)
        for number, values in self._values.items():
            values.take(self._machine.vmcs_of[number], self._fields(number))

    def give(self) -> None:
        """Copies back what has changed, and makes that the current one which is current here."""
        for number, values in self._values.items():
            values.give(self._machine.vmcs_of[number], self._fields(number))
        self._machine.vmcs = self._machine.vmcs_of[self._block.get(OFFSET["VMCS_NUMBER"])]

    def _fields(self, number: int) -> memoryview:
        if number == self._block.get(OFFSET["VMCS_NUMBER"]):
            return memoryview(self._block.data)[self._layout.vmcs : self._layout.lists]
        begin = number * self._size + WORD
        return memoryview(self._slots)[begin : begin + self._size - WORD]
