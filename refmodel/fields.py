"""The fields that an encoding is made of, and how a memory operand becomes ModR/M, SIB and displacement."""

from __future__ import annotations

from dataclasses import dataclass, field

from refmodel.operands import Memory

RSP = 4
RBP = 5
_SCALE_BITS = {1: 0, 2: 1, 4: 2, 8: 3}


@dataclass(slots=True)
class Fields:
    """What the operands ask of the encoding.

    A number is (value, bytes, relative); a relative one is counted from the end of the instruction. Register
    numbers keep their fourth bit here; it goes to the REX prefix when the bytes are laid out.
    """

    mod: int = 0
    reg: int = 0
    rm: int = 0
    index: int = 0
    opcode_register: int | None = None
    sib: int | None = None
    displacement: list[tuple[int, int, bool]] = field(default_factory=list)
    trailing: list[tuple[int, int, bool]] = field(default_factory=list)
    segment: int | None = None
    address_32: bool = False
    needs_rex: bool = False
    forbids_rex: bool = False

    @property
    def modrm(self) -> int:
        """The ModR/M byte."""
        return self.mod << 6 | (self.reg & 7) << 3 | self.rm & 7

    def set_modrm(self, byte: int) -> None:
        """Takes all three fields from a byte."""
        self.mod, self.reg, self.rm = byte >> 6, byte >> 3 & 7, byte & 7


def fits_signed(value: int, bits: int) -> bool:
    """Whether `value` is in the range of a signed number of that many bits."""
    return -(1 << bits - 1) <= value < 1 << bits - 1


def place_memory(fields: Fields, memory: Memory) -> bool:
    """Fills in the shortest ModR/M, SIB and displacement; False if there is none.  SDM 2A 2.1.5, 2.2.1.3"""
    fields.segment = memory.segment
    fields.address_32 = memory.address_width == 32
    if memory.relative:
        fields.mod, fields.rm = 0, RBP
        fields.displacement.append((memory.displacement, 4, True))
        return memory.base is None and memory.index is None
    displacement = _signed_displacement(memory)
    base, index = memory.base, memory.index
    if index == RSP and memory.scale == 1:  # RSP cannot be an index
        base, index = index, base
    if displacement is None or index == RSP or memory.scale not in _SCALE_BITS:
        return False
    size = _displacement_size(base, displacement)
    if size:
        fields.displacement.append((displacement, size, False))
    fields.mod = 0 if base is None else {0: 0, 1: 1, 4: 2}[size]
    if index is None and base is not None and base & 7 != RSP:
        fields.rm = base
        return True
    # A SIB byte: index 4 means none; base 5 with mod 0 means a displacement alone.
    fields.index = RSP if index is None else index
    low_base = RBP if base is None else base & 7
    fields.sib = _SCALE_BITS[memory.scale] << 6 | (fields.index & 7) << 3 | low_base
    fields.rm = RSP | (8 if base is not None and base > 7 else 0)
    return True


def _displacement_size(base: int | None, displacement: int) -> int:
    if base is None:
        return 4
    if displacement == 0 and base & 7 != RBP:
        return 0
    return 1 if fits_signed(displacement, 8) else 4


def _signed_displacement(memory: Memory) -> int | None:
    """The displacement as the signed 32-bit number that gives the same address, None if there is none."""
    width = memory.address_width
    if not -(1 << width - 1) <= memory.displacement < 1 << width:
        return None
    half = 1 << width - 1
    value = (memory.displacement + half) % (1 << width) - half
    return value if fits_signed(value, 32) else None
