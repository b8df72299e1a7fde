"""The ModR/M and SIB bytes, and reading an instruction byte by byte.  SDM 2A 2.1.3, 2.1.5, 2.2.1"""

from __future__ import annotations

from dataclasses import dataclass

from refmodel.encoding import MAX_LENGTH, Prefixes

ES, SS, DS = 0, 2, 3
NO_REGISTER = 16  # where an address has no base or index
RBX, RSP, RBP, RSI, RDI = 3, 4, 5, 6, 7

# Base and index by the r/m field where addresses have 16 bits.  SDM 2A table 2-1
PAIRS_16 = (
    (RBX, RSI),
    (RBX, RDI),
    (RBP, RSI),
    (RBP, RDI),
    (RSI, None),
    (RDI, None),
    (RBP, None),
    (RBX, None),
)


class Truncated(Exception):
    """The data end before the instruction does."""


class TooLong(Exception):
    """The instruction is longer than 15 bytes."""


class Cursor:
    """Reads the bytes of one instruction."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def peek(self) -> int:
        """The next byte, which stays the next."""
        if self.position >= MAX_LENGTH:
            raise TooLong
        if self.position >= len(self.data):
            raise Truncated
        return self.data[self.position]

    def skip(self) -> None:
        """Moves past a byte."""
        self.position += 1

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        end = self.position + length
        if end > MAX_LENGTH:
            raise TooLong
        if end > len(self.data):
            raise Truncated
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def unsigned(self, length: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.take(length), "little")

    def signed(self, length: int) -> int:
        """A little-endian number in two's complement."""
        return int.from_bytes(self.take(length), "little", signed=True)


@dataclass(frozen=True, slots=True)
class ModRM:
    """What a ModR/M byte with its SIB byte and displacement says.

    `reg` and `register` are register numbers with their REX bits; `register` counts if `mod` is 3. `base` and
    `index` are None where the address has none.
    """

    mod: int
    reg: int
    register: int = 0
    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0
    rip_relative: bool = False

    @property
    def default_segment(self) -> int:
        """SS for addresses based on RSP or RBP, otherwise DS.  SDM 1 3.7.4"""
        return SS if self.base in (RSP, RBP) else DS

    @property
    def addressing(self) -> int:
        """Base, index and scale as the language has them: five bits, five, and the scale's logarithm in two."""
        base = NO_REGISTER if self.base is None else self.base
        if self.index is None:
            return base << 7 | NO_REGISTER << 2
        return base << 7 | self.index << 2 | self.scale.bit_length() - 1


def read_modrm(
    cursor: Cursor, prefixes: Prefixes, address_bits: int = 64, always_register: bool = False
) -> ModRM:
    """Reads a ModR/M byte and what belongs to it; with `always_register`, mod is taken for 3 (MOV CR and DR)."""
    byte = cursor.unsigned(1)
    mod = 3 if always_register else byte >> 6
    reg = byte >> 3 & 7 | prefixes.rex_r << 3
    rm = byte & 7
    if mod == 3:
        return ModRM(3, reg, rm | prefixes.rex_b << 3)
    if address_bits == 16:
        return _read_16_bit_address(cursor, mod, reg, rm)
    if rm == 4:
        return _read_sib(cursor, prefixes, mod, reg)
    if mod == 0 and rm == 5:
        return ModRM(mod, reg, displacement=cursor.signed(4), rip_relative=prefixes.code_size == 64)
    return ModRM(mod, reg, base=rm | prefixes.rex_b << 3, displacement=_displacement(cursor, mod))


def _read_16_bit_address(cursor: Cursor, mod: int, reg: int, rm: int) -> ModRM:
    if mod == 0 and rm == 6:
        return ModRM(mod, reg, displacement=cursor.signed(2))
    base, index = PAIRS_16[rm]
    return ModRM(mod, reg, base=base, index=index, displacement=cursor.signed(mod) if mod else 0)


def _read_sib(cursor: Cursor, prefixes: Prefixes, mod: int, reg: int) -> ModRM:
    byte = cursor.unsigned(1)
    index = byte >> 3 & 7 | prefixes.rex_x << 3
    low_base = byte & 7
    no_base = mod == 0 and low_base == 5
    return ModRM(
        mod,
        reg,
        base=None if no_base else low_base | prefixes.rex_b << 3,
        index=None if index == 4 else index,
        scale=1 << (byte >> 6),
        displacement=cursor.signed(4) if no_base else _displacement(cursor, mod),
    )


def _displacement(cursor: Cursor, mod: int) -> int:
    return cursor.signed((0, 1, 4)[mod]) if mod else 0
