"""Page-table entries that cases change: the guest's and EPT's, on the way to the addresses that a case uses.

An entry may become one that maps a large page, and some of its bits are inverted. Entries whose change led to clauses
that no case had reached before are drawn more often. None leads the guest to the tables of EPT: they are the VMM's, as
`isolation` proves, and the order in which a walk reads entries that its own accessed flags change is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from checks.fuzz.bases import (
    DIRECTORY,
    EPT_DIRECTORY,
    EPT_PDPT,
    EPT_PML4,
    EPT_TABLE,
    EPT_WRITE_BACK,
    MEMORY_SIZE,
    PDPT,
    PML4,
    TABLE,
    TABLE_RANGES,
    memory_image,
)

_SHIFTS = (39, 30, 21, 12)  # an entry of each level maps so much, as a power of two
_GUEST, _EPT = (PML4, PDPT, DIRECTORY, TABLE), (EPT_PML4, EPT_PDPT, EPT_DIRECTORY, EPT_TABLE)
_LARGE, _LARGE_SHIFTS = 1 << 7, (30, 21)
_FRAME = 0xFF_FFFF_F000  # bits 39..12 of an entry
_EPT_FRAMES = frozenset(_EPT)
_MADE_LARGE = 0.5  # how often an entry that can map a large page does

# Bits that are inverted: those that mean something alone, low ones of the address of a large page, reserved ones.
_FLAGS = (*range(11), 63)
_BITS = (_FLAGS, _FLAGS, range(12, 30), range(40, 52))
_INVERTED = (0, 1, 1, 1, 2, 3)  # how many

_REWARD, _MOST = 4.0, 16.0  # what an entry counts more for each case that reached something new, and at most


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a base's tables: where it is in physical memory, what it maps (a power of two), what it is."""

    place: int
    shift: int
    value: int

    def changed(self, source: Random) -> int:
        """Another value for it.  All that the bases map lies where its address says, in the first page of any size."""
        value = self.value
        if self.shift in _LARGE_SHIFTS and source.random() < _MADE_LARGE:
            value = value & ~_FRAME | _LARGE | (EPT_WRITE_BACK if self.place >= EPT_PML4 else 0)
        for _ in range(source.choice(_INVERTED)):
            value ^= 1 << source.choice(source.choice(_BITS))
        return self.value if self._is_of_guest(value) and value & _FRAME in _EPT_FRAMES else value

    def _is_of_guest(self, value: int) -> bool:
        """Whether it maps a page of the guest or, as an entry of the guest's own, a table."""
        return self.place < EPT_PML4 or self.shift == _SHIFTS[-1] or bool(value & _LARGE)

    def word(self, source: Random) -> tuple[int, bytes]:
        """Another value for it, as a word of a case's memory."""
        return self.place, self.changed(source).to_bytes(8, "little")


@dataclass
class TableChanges:
    """Draws entries to change, those with a higher weight more often."""

    _weights: dict[int, float] = field(default_factory=dict)  # by place

    def __post_init__(self) -> None:
        self._images = {user: memory_image(user) for user in (False, True)}

    def draw(self, source: Random, base: str, addresses: Sequence[int]) -> Entry:
        """An entry of a base on the way to one of these addresses: the guest's, and for a guest EPT's too."""
        shifts = places_for(source.choice(addresses), of_guest=base.startswith("guest-"))
        weights = [self._weights.get(place, 1.0) for place in shifts]
        place = source.choices(list(shifts), weights)[0]
        value = int.from_bytes(self._images[base.endswith("user")][place : place + 8], "little")
        return Entry(place, shifts[place], value)

    def reward(self, written: Iterable[int]) -> None:
        """Notes that a case that writes to these places in memory reached something new."""
        for place in written:
            if any(place in tables for tables in TABLE_RANGES):
                self._weights[place] = min(_MOST, self._weights.get(place, 1.0) + _REWARD)


def places_for(address: int, *, of_guest: bool) -> dict[int, int]:
    """Where the entries are that translate an address below MEMORY_SIZE, and what each maps, as a power of two.

    EPT's are those for the page itself and for the guest's tables.
    """
    places = _way(_GUEST, address)
    if of_guest:
        for physical in (address, *places):
            places |= _way(_EPT, physical)
    return places


def _way(tables: Sequence[int], address: int) -> dict[int, int]:
    return {table + 8 * (address >> shift & 511): shift for table, shift in zip(tables, _SHIFTS, strict=True)}


def is_mapped(address: int) -> bool:
    """Whether an address is one of those that bases map."""
    return address < MEMORY_SIZE
