"""Memories and indexed state of the reference whose first content is that of unknown functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks.agreement.values import Unknowns

_MASK = (1 << 64) - 1


class Bytes:
    """A memory of random bytes in the place of the reference's; `written` has those written since the start."""

    def __init__(self, name: str, unknowns: Unknowns) -> None:
        self._name, self._unknowns = name, unknowns
        self.written: dict[int, int] = {}

    def first(self, address: int) -> int:
        """The byte at the start."""
        return self._unknowns.value(self._name, (address,))

    def read(self, address: int, length: int) -> int:
        """`length` bytes as a little-endian number."""
        addresses = [address + i & _MASK for i in range(length)]
        return int.from_bytes(
            bytes([self.written[a] if a in self.written else self.first(a) for a in addresses]), "little"
        )

    def write(self, address: int, length: int, value: int) -> None:
        """Writes `length` bytes of a little-endian number."""
        for i, byte in enumerate(value.to_bytes(length, "little")):
            self.written[address + i & _MASK] = byte

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """`read_8` to `write_64`."""
        operation, _, width = name.partition("_")
        if operation == "read" and width.isdigit():
            return lambda address: self.read(address, int(width) // 8)
        if operation == "write" and width.isdigit():
            return lambda address, value: self.write(address, int(width) // 8, value)
        raise AttributeError(name)


class Elements(dict[Any, int]):
    """Indexed state of the reference; it has what was written since the start."""

    def __init__(self, name: str, unknowns: Unknowns) -> None:
        super().__init__()
        self._name, self._unknowns = name, unknowns

    def __missing__(self, index: Any) -> int:
        return self._unknowns.value(self._name, index if isinstance(index, tuple) else (index,))
