"""A machine of the Python model, VMCSs and all, in a state block: copied in before a run and back after it."""

from __future__ import annotations

import ctypes
from typing import Any

from fastmodel.reference.compiled import Compiled
from fastmodel.reference.vmcs_store import VmcsStore
from refmodel.generate.names import cache_attribute


class MachineCopy:
    """The copy of a machine in the block of what is compiled for guests."""

    def __init__(self, compiled: Compiled, machine: Any) -> None:
        self._compiled, self._machine = compiled, machine
        self._vmcs = VmcsStore(compiled.layout, compiled.block, machine)
        self._generations: dict[int, int] = {}

    def has_room(self) -> bool:
        """Whether the machine can be copied."""
        return self._vmcs.has_room()

    def take(self) -> None:
        """Copies the machine in; nothing is remembered of translations."""
        self._compiled.block.take()
        self._vmcs.take()
        for address in self._compiled.caches.values():
            table = ctypes.c_uint64.from_address(address)
            table.value += 1
            self._generations[address] = table.value
        self._compiled.decoded.make_room()

    def give(self) -> None:
        """Copies back what has changed; what was forgotten here is forgotten there."""
        self._vmcs.give()
        self._compiled.block.give()
        for name, address in self._compiled.caches.items():
            generation = ctypes.c_uint64.from_address(address).value
            if generation != self._generations[address]:
                self._generations[address] = generation
                getattr(self._machine, cache_attribute(name)).clear()
