"""Memory for the replay of a counterexample: page tables and EPT that map what it accesses.

Proofs see linear memory through a contract; the reference has real paging. The pages that an instruction touches
are mapped, one frame each, with all rights for the current privilege level; EPT maps every frame to itself. What is
not canonical has no page: a path that is not taken may touch it, and the tables do not look at its highest bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FIRST_FRAME = 0x2000  # frames below are left to what the VMCS points to
PAGE = 12
CANONICAL = 1 << 47
"""The first address that is not canonical.  SDM 1 3.3.7.1"""
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE = 1, 2, 4, 0x20, 0x40, 0x80
EPT_RIGHTS, EPT_WRITE_BACK = 7, 6 << 3
EPT_POINTER = 6 | 3 << 3  # write-back, four levels


class Mapping4:
    """Four-level page tables under construction.  `root` is their address, for CR3."""

    def __init__(self, linear: Mapping[int, int], *, user: bool) -> None:
        self._bits = PRESENT | WRITABLE | ACCESSED | (USER if user else 0)
        self._words: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._next = FIRST_FRAME
        self.root = self._new_frame()
        self.eptp = self._identity() | EPT_POINTER
        mapped = {address: byte for address, byte in linear.items() if is_canonical(address)}
        pages = {address >> PAGE: self._map(address) for address in sorted(mapped)}
        for address, byte in mapped.items():
            self._bytes[pages[address >> PAGE] + address % (1 << PAGE)] = byte

    def memory(self) -> list[tuple[int, bytes]]:
        """(host-physical address, bytes) of the tables and of the data."""
        words = [(address, value.to_bytes(8, "little")) for address, value in sorted(self._words.items())]
        return [*words, *physical_bytes(self._bytes)]

    def _new_frame(self) -> int:
        self._next += 1
        return self._next - 1 << PAGE

    def _map(self, address: int) -> int:
        """The page of an address, mapped; a frame of its own unless it has one."""
        table = self.root
        for shift in (39, 30, 21, 12):
            entry = table + (address >> shift & 0x1FF) * 8
            if entry not in self._words:
                self._words[entry] = self._new_frame() | self._bits | (DIRTY if shift == PAGE else 0)
            table = self._words[entry] & 0xFF_FFFF_F000
        return table

    def _identity(self) -> int:
        """EPT tables that map the first GiB to itself by one entry; the address of their root."""
        root, table = self._new_frame(), self._new_frame()
        self._words[root] = table | EPT_RIGHTS
        self._words[table] = EPT_RIGHTS | EPT_WRITE_BACK | LARGE
        return root


def is_canonical(address: int) -> bool:
    """Whether bits 63 to 47 of an address are equal."""
    return address < CANONICAL or address >= (1 << 64) - CANONICAL


def runs_of(data: Mapping[int, int]) -> list[tuple[int, bytes]]:
    """Bytes that follow each other, together."""
    runs: list[tuple[int, bytearray]] = []
    for address in sorted(data):
        if runs and runs[-1][0] + len(runs[-1][1]) == address:
            runs[-1][1].append(data[address])
        else:
            runs.append((address, bytearray([data[address]])))
    return [(address, bytes(run)) for address, run in runs]


def physical_bytes(data: Mapping[int, int]) -> Iterable[tuple[int, bytes]]:
    """Bytes of host-physical memory, as a case holds them that begins with empty memory: without zeros."""
    return runs_of({address: byte for address, byte in data.items() if byte})
