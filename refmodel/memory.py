"""Host-physical memory: one flat buffer, whose untouched pages cost nothing, usable by native code by address."""

from __future__ import annotations

import ctypes
import mmap
from struct import Struct, error

_16 = Struct("<H")
_32 = Struct("<I")
_64 = Struct("<Q")
_BEYOND = (error, OverflowError, IndexError)


class PhysicalMemory:
    """`size` bytes of memory, zero at first.  Reads beyond its end give ones, writes there have no effect."""

    __slots__ = ("data", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = mmap.mmap(-1, size)

    @property
    def address(self) -> int:
        """Where the buffer lies in this process, for native code."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.data))

    def read_8(self, address: int) -> int:
        """The byte at a byte address."""
        return self.data[address] if address < self.size else 0xFF

    def read_16(self, address: int) -> int:
        """16 bits, little-endian."""
        try:
            value: int = _16.unpack_from(self.data, address)[0]
        except _BEYOND:
            return self.read(address, 2)
        return value

    def read_32(self, address: int) -> int:
        """32 bits, little-endian."""
        try:
            value: int = _32.unpack_from(self.data, address)[0]
        except _BEYOND:
            return self.read(address, 4)
        return value

    def read_64(self, address: int) -> int:
        """64 bits, little-endian."""
        try:
            value: int = _64.unpack_from(self.data, address)[0]
        except _BEYOND:
            return self.read(address, 8)
        return value

    def read(self, address: int, length: int) -> int:
        """`length` bytes as a little-endian number."""
        return int.from_bytes(self.read_bytes(address, length), "little")

    def read_bytes(self, address: int, length: int) -> bytes:
        """`length` bytes; ones beyond the end."""
        inside = self.data[address : address + length] if address < self.size else b""
        return inside if len(inside) == length else inside + b"\xff" * (length - len(inside))

    def write_8(self, address: int, value: int) -> None:
        """Writes a byte."""
        if address < self.size:
            self.data[address] = value

    def write_16(self, address: int, value: int) -> None:
        """Writes 16 bits, little-endian."""
        try:
            _16.pack_into(self.data, address, value)
        except _BEYOND:
            self.write(address, 2, value)

    def write_32(self, address: int, value: int) -> None:
        """Writes 32 bits, little-endian."""
        try:
            _32.pack_into(self.data, address, value)
        except _BEYOND:
            self.write(address, 4, value)

    def write_64(self, address: int, value: int) -> None:
        """Writes 64 bits, little-endian."""
        try:
            _64.pack_into(self.data, address, value)
        except _BEYOND:
            self.write(address, 8, value)

    def write(self, address: int, length: int, value: int) -> None:
        """Writes `length` bytes of a little-endian number."""
        self.write_bytes(address, value.to_bytes(length, "little"))

    def write_bytes(self, address: int, data: bytes) -> None:
        """Writes bytes; those beyond the end are dropped."""
        if address < self.size:
            inside = data[: self.size - address]
            self.data[address : address + len(inside)] = inside


class RecordingMemory(PhysicalMemory):
    """Memory that remembers what the 64-bit words it changed held before.

    `keep` takes the present content as the one that `undo` returns to, `mark` as the one that `changes` compares with.
    """

    __slots__ = ("_kept", "_marked")

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._kept: dict[int, bytes] = {}
        self._marked: dict[int, bytes] = {}

    def keep(self) -> None:
        """The present content is what `undo` returns to."""
        self._kept.clear()
        self._marked.clear()

    def undo(self) -> None:
        """Puts every word back to what it held at the last `keep`."""
        for address, data in self._kept.items():
            super().write_bytes(address, data)
        self.keep()

    def mark(self) -> None:
        """The present content is what `changes` compares with."""
        self._marked = {address: self.read_bytes(address, 8) for address in self._kept}

    def changes(self) -> list[tuple[int, int]]:
        """The 64-bit words that changed since the last `mark`: address and new value, in order of address."""
        changed = []
        for address, kept in sorted(self._kept.items()):
            now = self.read_bytes(address, 8)
            if now != self._marked.get(address, kept):
                changed.append((address, int.from_bytes(now, "little")))
        return changed

    def write_8(self, address: int, value: int) -> None:  # noqa: D102
        self._record(address, 1)
        super().write_8(address, value)

    def write_16(self, address: int, value: int) -> None:  # noqa: D102
        self._record(address, 2)
        super().write_16(address, value)

    def write_32(self, address: int, value: int) -> None:  # noqa: D102
        self._record(address, 4)
        super().write_32(address, value)

    def write_64(self, address: int, value: int) -> None:  # noqa: D102
        self._record(address, 8)
        super().write_64(address, value)

    def write_bytes(self, address: int, data: bytes) -> None:  # noqa: D102
        self._record(address, len(data))
        super().write_bytes(address, data)

    def note(self, address: int, before: bytes) -> None:
        """Tells that native code wrote a 64-bit word, and what it held before."""
        self._kept.setdefault(address, before)

    def _record(self, address: int, length: int) -> None:
        for word in range(address & ~7, min(address + length, self.size), 8):
            if word not in self._kept:
                self._kept[word] = self.read_bytes(word, 8)


class EndlessMemory(PhysicalMemory):
    """Memory as theorems have it, without an end: beyond the buffer each byte is zero until it is written."""

    __slots__ = ("_beyond",)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._beyond: dict[int, int] = {}

    def is_same(self, other: EndlessMemory) -> bool:
        """Whether the other memory, of the same size, has the same bytes."""
        places = self._beyond.keys() | other._beyond.keys()
        within = self.read_bytes(0, self.size) == other.read_bytes(0, other.size)
        return within and all(self.read_8(at) == other.read_8(at) for at in places)

    def read_8(self, address: int) -> int:  # noqa: D102
        return self.data[address] if address < self.size else self._beyond.get(address, 0)

    def read_bytes(self, address: int, length: int) -> bytes:  # noqa: D102
        if address + length <= self.size:
            return super().read_bytes(address, length)
        return bytes(self.read_8(address + i) for i in range(length))

    def write_8(self, address: int, value: int) -> None:  # noqa: D102
        if address < self.size:
            self.data[address] = value
        else:
            self._beyond[address] = value

    def write_bytes(self, address: int, data: bytes) -> None:  # noqa: D102
        for i, byte in enumerate(data):
            self.write_8(address + i, byte)
