"""The state block and the tables of translations that it points to, as words by address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import z3

from checks.fast.words import Paths, Word, bits_of, number
from checks.symbolic.terms import Terms, Vector
from fastmodel import state as layout

WIDE = 1 << 20
"""Where the wide table lies."""


class Words(Protocol):
    """Words by address."""

    def read(self, address: Vector) -> Vector:
        """The word at an address."""
        ...

    def written(self, address: Vector, value: Vector) -> Words:
        """The words after a write."""
        ...


@dataclass(frozen=True, slots=True)
class AnyWords:
    """Words of which nothing is known; `seen` are the addresses at which they were read at the start."""

    terms: Terms
    array: z3.ArrayRef
    seen: dict[int, z3.BitVecRef]

    def read(self, address: Vector) -> Vector:
        """The word at an address."""
        place = self.terms.vector(address, 64)
        self.seen[place.get_id()] = place
        return z3.Select(self.array, place)

    def written(self, address: Vector, value: Vector) -> AnyWords:
        """The words after a write."""
        place, stored = self.terms.vector(address, 64), self.terms.vector(value, 64)
        return AnyWords(self.terms, z3.Store(self.array, place, stored), self.seen)


@dataclass(slots=True)
class Memory:
    """The state block and the tables that it points to, as words by address."""

    paths: Paths
    words: Words

    @property
    def block(self) -> Address:
        """The address of the block: `state` in the texts."""
        return Address(self, 0)


@dataclass(frozen=True, slots=True)
class Address:
    """An address in the array."""

    memory: Memory
    offset: Vector

    def __add__(self, other: int | Word) -> Address:
        terms = self.memory.paths.terms
        return Address(self.memory, terms.arithmetic("+", self.offset, bits_of(other), 64))

    def read(self, width: int) -> object:
        """`get` and `field`."""
        assert width == 64, "words are read whole"
        if isinstance(self.offset, int) and self.offset in (layout.WIDE_READS, layout.WIDE_WRITES):
            return Address(self.memory, WIDE)
        return number(self.memory.paths, self.memory.words.read(self.offset))

    def write(self, width: int, value: int | Word) -> None:
        """`put` and `set_field`."""
        assert width == 64, "words are written whole"
        self.memory.words = self.memory.words.written(self.offset, bits_of(value))
