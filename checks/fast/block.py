"""The state block and a decoded instruction as the handlers' texts see them, on a symbolic state of the specification.

The general registers of the block are the specification's own `GPR`, so that register numbers stay symbolic; the
other words of the block are values by offset. An address is an object that knows what lies there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from checks.fast.contract import Accesses, simple
from checks.fast.words import Fact, Paths, Word, bits_of, number
from checks.symbolic.state import State, merge
from checks.symbolic.terms import Truth, Vector
from checks.trap.contract import LINEAR
from fastmodel import state as layout

GPR = "GPR"
GPR_END = layout.GPR + 16 * 8


@dataclass(frozen=True, slots=True)
class RegisterOffset:
    """The offset in the block of a register operand.

    `is_high` says that it is that of AH, CH, DH or BH, `is_present` that it is not that of the word that is always 0.
    """

    number: Vector
    is_high: Truth = False
    is_present: Truth = True


@dataclass(slots=True)
class Block:
    """The state block.  `words` holds what is not a general register, by offset."""

    paths: Paths
    accesses: Accesses
    state: State
    words: dict[int, Vector]

    def copy(self) -> Block:
        """A block to run on; this one stays as it is."""
        return Block(self.paths, self.accesses, self.state.copy(), dict(self.words))

    @property
    def address(self) -> BlockPlace:
        """The address of the block: `state` in the texts."""
        return BlockPlace(self, 0)

    def word(self, offset: int) -> Vector:
        """A word that is not a general register."""
        return self.words[offset]


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """An address at a known offset in the block."""

    block: Block
    offset: int

    def __add__(self, other: int | RegisterOffset) -> BlockPlace | RegisterPlace:
        if isinstance(other, RegisterOffset):
            return RegisterPlace(self.block, other)
        return BlockPlace(self.block, self.offset + other)

    def read(self, width: int) -> int | Word:
        """`get`."""
        if self.offset < GPR_END:
            return self._register().read(width)
        assert width == 64, "words of the block are read whole"
        return number(self.block.paths, self.block.word(self.offset))

    def write(self, width: int, value: int | Word) -> None:
        """`put`."""
        if self.offset < GPR_END:
            self._register().write(width, value)
            return
        assert width == 64, "words of the block are written whole"
        self.block.words[self.offset] = bits_of(value)

    def read_address(self, linear: int | Word, size: int) -> Host:
        """Where the guest's memory is read."""
        return Host(self.block, simple(bits_of(linear)), size, is_written=False)

    def write_address(self, linear: int | Word, size: int) -> Host:
        """Where the guest's memory is written."""
        return Host(self.block, simple(bits_of(linear)), size, is_written=True)

    def _register(self) -> RegisterPlace:
        index, byte = divmod(self.offset - layout.GPR, 8)
        assert byte in (0, 1)
        return RegisterPlace(self.block, RegisterOffset(index + 4 * byte, byte == 1))


@dataclass(frozen=True, slots=True)
class RegisterPlace:
    """The address of a general register in the block."""

    block: Block
    register: RegisterOffset

    def read(self, width: int) -> int | Word:
        """`get`."""
        terms, register = self.block.paths.terms, self.register
        low = terms.extract(self._whole(register.number), width - 1, 0)
        if register.is_high is not False:
            high = terms.extract(self._whole(self._holder()), 15, 8)
            low = terms.choose(register.is_high, high, low, 8)
        low = terms.choose(register.is_present, low, 0, width)
        return number(self.block.paths, terms.extend(low, width, 64, is_signed=False))

    def write(self, width: int, value: int | Word) -> None:
        """`put`."""
        assert self.register.is_present is True
        block, terms = self.block, self.block.paths.terms
        low = terms.extract(bits_of(value), width - 1, 0)
        before, state = block.state.copy(), block.state
        state.update(GPR, (self.register.number,), self._replaced(self.register.number, low, width, 0))
        if self.register.is_high is not False:
            assert width == 8
            before.update(GPR, (self._holder(),), self._replaced(self._holder(), low, 8, 8))
            block.state = merge(self.register.is_high, before, state)

    def _holder(self) -> Vector:
        """The number of the register that holds AH, CH, DH or BH."""
        return self.block.paths.terms.arithmetic("&", self.register.number, 3, 4)

    def _whole(self, index: Vector) -> Vector:
        return cast(Vector, self.block.state.elements(GPR).read((index,)))

    def _replaced(self, index: Vector, part: Vector, width: int, low: int) -> Vector:
        """A register with `width` bits from bit `low` on replaced."""
        terms, high = self.block.paths.terms, low + width
        parts = [(part, width)]
        if high < 64:
            parts.insert(0, (terms.extract(self._whole(index), 63, high), 64 - high))
        if low > 0:
            parts.append((terms.extract(self._whole(index), low - 1, 0), low))
        return terms.concat(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """What `read_address` and `write_address` return: 0, or where in this process the bytes lie."""

    block: Block
    linear: Vector
    size: int
    is_written: bool

    def __eq__(self, other: object) -> Fact:  # type: ignore[override]
        assert other == 0, "a host address is compared with 0 only"
        accesses = self.block.accesses
        is_given = accesses.is_given(self.linear, self.size, is_written=self.is_written)
        return Fact(self.block.paths, self.block.paths.terms.negation(is_given))

    __hash__ = None  # type: ignore[assignment]

    def read(self, width: int) -> int | Word:
        """`load`."""
        assert width == 8 * self.size
        state = self.block.state
        memory = state.surroundings.memories[LINEAR]
        value = memory.read(state.elements(LINEAR), self.linear, width)
        terms = self.block.paths.terms
        return number(self.block.paths, terms.extend(value, width, 64, is_signed=False))

    def write(self, width: int, value: int | Word) -> None:
        """`store`."""
        assert width == 8 * self.size
        assert self.is_written
        state = self.block.state
        low = self.block.paths.terms.extract(bits_of(value), width - 1, 0)
        memory = state.surroundings.memories[LINEAR]
        state.set(LINEAR, memory.write(state.elements(LINEAR), self.linear, low, width))


@dataclass(frozen=True, slots=True)
class Decoded:
    """The address of a decoded instruction, `u` in the texts, or of one of its fields."""

    paths: Paths
    fields: dict[int, Vector | RegisterOffset] = field(default_factory=dict)
    offset: int = 0

    def __add__(self, other: int) -> Decoded:
        return Decoded(self.paths, self.fields, self.offset + other)

    def read(self, width: int) -> int | Word | RegisterOffset:
        """`field`."""
        value = self.fields[self.offset]
        if isinstance(value, RegisterOffset):
            return value
        terms = self.paths.terms
        low = terms.extract(value, width - 1, 0)
        return number(self.paths, terms.extend(low, width, 64, is_signed=False))
