"""What a symbolic run wrote to indexed state and memories, for the values that its terms have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

_MASK = (1 << 64) - 1  # of addresses


@dataclass(frozen=True, slots=True)
class Written:
    """Contents after a write: the numbers below are places among the values of a form's terms.

    `length` is how many bytes of a memory were written, None for an element of indexed state.
    """

    before: Contents
    point: tuple[int, ...]
    value: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Either:
    """One of two contents."""

    condition: int
    then: Contents
    otherwise: Contents


Contents: TypeAlias = Written | Either | None
"""None: as at the start."""


def written(contents: Contents, values: Sequence[int]) -> dict[Any, int]:
    """All that was written, by index, by the tuple of indices if there are several, or by address."""
    while isinstance(contents, Either):
        contents = contents.then if values[contents.condition] else contents.otherwise
    if contents is None:
        return {}
    found = written(contents.before, values)
    value = values[contents.value]
    if contents.length is None:
        point = tuple([values[place] for place in contents.point])
        found[point if len(point) > 1 else point[0]] = value
        return found
    address = values[contents.point[0]]
    for number, byte in enumerate(value.to_bytes(contents.length, "little")):
        found[address + number & _MASK] = byte
    return found
