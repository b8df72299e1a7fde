"""Copies a machine of the Python model into a state block, and back: only what has changed since the last time."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastmodel.reference.layout import Layout, Place
from grammar import ir

WORD = 8  # bytes
Buffer = Any  # collections.abc.Buffer where that exists


class StateBlock:
    """A state block with the state of a machine in it, but for its VMCS; `address` is where `data` lie."""

    def __init__(self, layout: Layout, machine: Any) -> None:
        self.data = bytearray(layout.size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.data))
        self._machine = machine
        self._variables = Values(
            [place for place in layout.places.values() if place.variable.space != "vmcs"]
        )

    def get(self, offset: int) -> int:
        """The word at a byte offset."""
        return int.from_bytes(self.data[offset : offset + WORD], "little")

    def put(self, offset: int, value: int) -> None:
        """Writes a word."""
        self.data[offset : offset + WORD] = value.to_bytes(WORD, "little")

    def take(self) -> None:
        """Copies the machine in."""
        self._variables.take(self._machine, self.data)

    def give(self) -> None:
        """Copies back what is different in the block."""
        self._variables.give(self._machine, self.data)


def vmcs_fields(layout: Layout) -> Values:
    """The fields of a VMCS, in memory of its own."""
    fields = [place for place in layout.places.values() if place.variable.space == "vmcs"]
    return Values(fields, layout.vmcs)


class Values:
    """The values of variables at their places in memory, and what they were when they were last copied.

    The places' offsets count from `begin` on.
    """

    def __init__(self, places: Sequence[Place], begin: int = 0) -> None:
        self._places = [(place, place.offset - begin) for place in places]
        self._values: list[Any] = [None] * len(places)
        self._bytes = [b""] * len(places)

    def take(self, owner: Any, memory: Buffer) -> None:
        """Writes what the owner's attributes hold."""
        values = self._values
        for number, (place, offset) in enumerate(self._places):
            value = getattr(owner, place.variable.name)
            if _is_too_long(place, value):
                value = None
            if value != values[number] or not self._bytes[number]:
                values[number] = value if isinstance(value, int | None) else value.copy()
                data = self._bytes[number] = _encoded(place, value)
                memory[offset : offset + len(data)] = data

    def give(self, owner: Any, memory: Buffer) -> None:
        """Sets the attributes that are different in memory."""
        for number, (place, offset) in enumerate(self._places):
            data = bytes(memory[offset : offset + _used(place, memory, offset)])
            if data != self._bytes[number]:
                self._bytes[number] = data
                self._values[number] = value = _decoded(place, data)
                _assign(owner, place.variable.name, value)


def _assign(owner: Any, name: str, value: Any) -> None:
    """Gives an attribute a value; lists and dictionaries stay the objects that they are."""
    if isinstance(value, int):
        setattr(owner, name, value)
        return
    now = getattr(owner, name)
    if isinstance(value, list):
        now[:] = value
    else:
        now.clear()
        now.update(value)


def _is_too_long(place: Place, value: Any) -> bool:
    return place.keys > 0 and len(value) > place.length


def _used(place: Place, memory: Buffer, offset: int) -> int:
    """How many bytes of a place count."""
    if not place.keys:
        return place.size
    count = int.from_bytes(memory[offset : offset + WORD], "little")
    return WORD + (count * place.stride if count <= place.length else 0)


def _encoded(place: Place, value: Any) -> bytes:
    """A value in memory; None is a list that has no room."""
    width = place.stride - WORD * place.keys
    if place.keys:
        if value is None:
            return (place.length + 1).to_bytes(WORD, "little")
        return b"".join([len(value).to_bytes(WORD, "little"), *_entries(value, width)])
    if not place.variable.indices:
        return int(value).to_bytes(width, "little")
    return b"".join(int(element).to_bytes(width, "little") for element in value)


def _entries(values: Mapping[Any, int], width: int) -> Iterator[bytes]:
    for index, value in values.items():
        yield array("Q", index if isinstance(index, tuple) else (index,)).tobytes()
        yield int(value).to_bytes(width, "little")


def _decoded(place: Place, data: bytes) -> Any:
    """The value that these bytes are."""
    kind = bool if isinstance(place.variable.type, ir.Bool) else int
    elements = [data[n : n + place.stride] for n in range(WORD if place.keys else 0, len(data), place.stride)]
    if not place.keys:
        values = [kind(int.from_bytes(element, "little")) for element in elements]
        return values if place.variable.indices else values[0]
    split = WORD * place.keys
    return {_index(element[:split]): kind(int.from_bytes(element[split:], "little")) for element in elements}


def _index(data: bytes) -> Any:
    keys = tuple(array("Q", data))
    return keys[0] if len(keys) == 1 else keys
