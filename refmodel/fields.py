"""The fields that an encoding is made of, and how a memory operand becomes ModR/M, SIB and displacement."""

from __future__ import annotations

from dataclasses import dataclass, field

from refmodel.addressing import PAIRS_16, RBP, RSP
from refmodel.operands import Memory

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
    address_width: int | None = None
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


def address_width(memory: Memory, code_size: int) -> int:
    """The address size of a memory operand: without registers, 64 stands for that of the code."""
    is_bare = memory.base is None and memory.index is None
    return code_size if is_bare and memory.address_width == 64 else memory.address_width


def place_memory(fields: Fields, memory: Memory, code_size: int) -> bool:
    """Fills in the shortest ModR/M, SIB and displacement; False if there is none.  SDM 2A 2.1.5, 2.2.1.3"""
    fields.segment = memory.segment
    fields.address_width = address_width(memory, code_size)
    if fields.address_width == 16:
        return _place_16_bit_address(fields, memory)
    if memory.relative:
        fields.mod, fields.rm = 0, RBP
        fields.displacement.append((memory.displacement, 4, True))
        return memory.base is None and memory.index is None and code_size == 64
    if code_size != 64 and memory.base is None and memory.index is None:
        fields.mod, fields.rm = 0, RBP
        fields.displacement.append((memory.displacement, 4, False))
        return -(1 << 31) <= memory.displacement < 1 << 32
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


def _place_16_bit_address(fields: Fields, memory: Memory) -> bool:
    """SDM 2A table 2-1"""
    value = (memory.displacement + (1 << 15)) % (1 << 16) - (1 << 15)
    if memory.base is None and memory.index is None:
        fields.mod, fields.rm = 0, 6
        fields.displacement.append((value, 2, False))
        return not memory.relative
    pair = next((p for p in PAIRS_16 if {*p} == {memory.base, memory.index}), None)
    if pair is None or memory.scale != 1:
        return False
    fields.rm = PAIRS_16.index(pair)
    fields.mod = 0 if value == 0 and fields.rm != 6 else 1 if fits_signed(value, 8) else 2
    if fields.mod:
        fields.displacement.append((value, fields.mod, False))
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
