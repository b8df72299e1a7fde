"""Memories: bytes for what instructions load and store, 64-bit words for paging structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import z3

from checks.symbolic.state import Elements, Initial, Updated
from checks.symbolic.terms import Terms, Vector
from checks.symbolic.values import Point, Value, key
from grammar.ir import Bits, Type

BYTE = Bits(8)
WORD = Bits(64)
FRAME_BITS = 4096 * 8


@dataclass(slots=True)
class Stored:
    """A memory after a store of `width` bits at `address`."""

    terms: Terms
    old: Elements
    address: Vector
    value: Vector
    width: int
    address_width: int
    _known: dict[object, Value] = field(default_factory=dict)

    def read(self, point: Point) -> Value:
        """The byte at an address; each is made once."""
        at = key(point[0])
        if at not in self._known:
            self._known[at] = self._read(point)
        return self._known[at]

    def _read(self, point: Point) -> Value:
        terms = self.terms
        distance = self._distance(cast(Vector, point[0]))
        if isinstance(distance, int):
            if distance < self.width // 8:
                return terms.extract(self.value, distance * 8 + 7, distance * 8)
            return self.old.read(point)
        is_inside = terms.compare("<", distance, self.width // 8, self.address_width)
        return terms.choose(is_inside, self._byte(distance), cast(Vector, self.old.read(point)), 8)

    def _distance(self, point: Vector) -> Vector:
        """How many bytes `point` lies above the store's address; a number where the terms say so."""
        distance = self.terms.arithmetic("-", point, self.address, self.address_width)
        if isinstance(distance, int):
            return distance
        simple = z3.simplify(distance)
        return simple.as_long() if z3.is_bv_value(simple) else distance

    def _byte(self, distance: Vector) -> Vector:
        """Byte number `distance` of the stored value, found by halves: each bit of the number chooses one."""
        terms = self.terms
        parts = [terms.extract(self.value, n * 8 + 7, n * 8) for n in range(self.width // 8)]
        for bit in range((len(parts) - 1).bit_length()):
            is_odd = terms.equal(terms.extract(distance, bit, bit), 1, 1)
            pairs = zip(parts[::2], [*parts[1::2], parts[-1]], strict=False)
            parts = [terms.choose(is_odd, high, low, 8) for low, high in pairs]
        return parts[0]


@dataclass(slots=True)
class ByteMemory:
    """A memory of bytes at addresses of `address_width` bits; `first(address)` is a byte at the start."""

    terms: Terms
    address_width: int
    first: Callable[[Vector], Vector]

    def initial(self, name: str) -> Elements:  # noqa: ARG002 - part of the protocol
        """The bytes at the start."""
        return Initial(lambda point: self.first(cast(Vector, point[0])))

    def read(self, elements: Elements, address: Vector, width: int) -> Vector:
        """`width` bits at an address."""
        parts = [(self._byte(elements, address, number), 8) for number in reversed(range(width // 8))]
        return self.terms.concat(parts)

    def _byte(self, elements: Elements, address: Vector, number: int) -> Vector:
        return cast(Vector, elements.read((self.terms.arithmetic("+", address, number, self.address_width),)))

    def write(self, elements: Elements, address: Vector, value: Vector, width: int) -> Elements:
        """The bytes after a write of `width` bits."""
        return Stored(self.terms, elements, address, value, width, self.address_width)

    def element_type(self, name: str) -> Type:  # noqa: ARG002 - part of the protocol
        """The type of one of the bytes."""
        return BYTE


class UnalignedAccessError(Exception):
    """A memory of words was accessed otherwise than by words and frames at addresses known to be aligned."""


@dataclass(slots=True)
class ZeroedFrame:
    """A memory of words after one frame was filled with zeros."""

    terms: Terms
    old: Elements
    frame: Vector
    frame_width: int

    def read(self, point: Point) -> Value:
        """The word at (frame, index)."""
        is_here = self.terms.equal(cast(Vector, point[0]), self.frame, self.frame_width)
        if is_here is True:
            return 0
        return self.terms.choose(is_here, 0, cast(Vector, self.old.read(point)), 64)


@dataclass(slots=True)
class WordMemory:
    """A memory of aligned 64-bit words; a point is (frame number, index of the word in the frame).

    Proofs about paging structures use it. Every access must be 64 bits wide at an address that is a multiple of 8 by
    its construction, write 128 bits at a multiple of 16, or fill a frame with zeros.
    """

    terms: Terms
    frame_width: int
    first: Callable[[Point], Value]

    def initial(self, name: str) -> Elements:  # noqa: ARG002 - part of the protocol
        """The words at the start."""
        return Initial(self.first)

    def read(self, elements: Elements, address: Vector, width: int) -> Vector:
        """`width` bits at an address."""
        if width != 64:
            raise UnalignedAccessError(f"a read of {width} bits")
        return cast(Vector, elements.read(self.point(address)))

    def write(self, elements: Elements, address: Vector, value: Vector, width: int) -> Elements:
        """The words after a write of `width` bits."""
        frame, index = self.point(address)
        if width == FRAME_BITS and index == 0 and value == 0:
            return ZeroedFrame(self.terms, elements, cast(Vector, frame), self.frame_width)
        if width == 128 and self._simple(address, 3, 3) == 0:
            high = self.terms.extract(value, 127, 64)
            second = self.terms.arithmetic("|", cast(Vector, index), 1, 9)
            elements = self._with_word(elements, (frame, second), high)
        elif width != 64:
            raise UnalignedAccessError(f"a write of {width} bits")
        return self._with_word(elements, (frame, index), self.terms.extract(value, 63, 0))

    def _with_word(self, elements: Elements, point: Point, value: Vector) -> Elements:
        return Updated(self.terms, elements, point, value, (Bits(self.frame_width), Bits(9)), WORD)

    def element_type(self, name: str) -> Type:  # noqa: ARG002 - part of the protocol
        """The type of one of the words."""
        return WORD

    def point(self, address: Vector) -> Point:
        """The frame and the index of the word at a byte address."""
        if self._simple(address, 2, 0) != 0:
            raise UnalignedAccessError(f"an access at {address}")
        return self._simple(address, 11 + self.frame_width, 12), self._simple(address, 11, 3)

    def _simple(self, address: Vector, high: int, low: int) -> Vector:
        part = self.terms.extract(address, high, low)
        if isinstance(part, int):
            return part
        simple = z3.simplify(part)
        return simple.as_long() if z3.is_bv_value(simple) else simple
