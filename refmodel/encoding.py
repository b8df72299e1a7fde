"""What a row of the opcode table means, for the decoder and the encoder alike.

A `Pattern` is an `EncodingRow` taken apart: which escape and opcode bytes, whether a ModR/M byte follows, what the
prefixes must be, and how the operand size comes about.  Nothing here knows an instruction.  SDM 2A 2.1, 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grammar import widths
from grammar.ir import EncodingRow, OperandCode
from grammar.widths import operand_width, scaled_width

MAX_LENGTH = 15  # bytes of an instruction; longer ones are #GP(0).  SDM 2A 2.3.11

OPERAND_SIZE = 0x66
ADDRESS_SIZE = 0x67
REPNE = 0xF2
REP = 0xF3
LOCK = 0xF0
SEGMENT_PREFIXES = {0x26: 0, 0x2E: 1, 0x36: 2, 0x3E: 3, 0x64: 4, 0x65: 5}  # byte → segment register number
# VEX and EVEX; outside 64-bit mode only before a byte that would be a ModR/M byte with mod 3.  SDM 2A 2.3, 2.7
VEX_PREFIXES = frozenset({0x62, 0xC4, 0xC5})
LEGACY_PREFIXES = frozenset({OPERAND_SIZE, ADDRESS_SIZE, REPNE, REP, LOCK, *SEGMENT_PREFIXES})

# Kinds of operand whose bytes follow the opcode.
TRAILING_KINDS = frozenset({"immediate", "signed_immediate", "relative", "offset"})


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefixes of an instruction that choose between rows, and the size of the code that it is in.

    `repeat` is F2, F3 or 0 (the last one counts); `code_size` is 64, 32 or 16.
    """

    operand_size: bool = False
    repeat: int = 0
    rex: int = 0  # the REX byte, 0 if there is none
    code_size: int = 64

    @property
    def rex_w(self) -> bool:
        """64-bit operand size."""
        return bool(self.rex & 8)

    @property
    def rex_r(self) -> bool:
        """Bit 3 of ModRM.reg."""
        return bool(self.rex & 4)

    @property
    def rex_x(self) -> bool:
        """Bit 3 of SIB.index."""
        return bool(self.rex & 2)

    @property
    def rex_b(self) -> bool:
        """Bit 3 of ModRM.rm, SIB.base or the opcode's register."""
        return bool(self.rex & 1)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A row of the opcode table.

    `modrm` is "r", a digit or None; `fixed_modrm` a whole ModR/M byte that belongs to the opcode (0F 01 C1).
    `mode` says what mod may be: "register" (3), "memory" (not 3) or "any". `mandatory` is 66, F2, F3 or 0;
    `no_prefix` forbids these three. `rex_w`, `rex_r`, `rex_b` are None where the bit does not matter.
    """

    row: EncodingRow
    operands: tuple[OperandCode, ...]
    escape: bytes
    opcode: int
    register_in_opcode: bool
    modrm: int | str | None
    fixed_modrm: int | None
    mode: str
    mandatory: int
    no_prefix: bool
    rex_w: bool | None
    rex_r: bool | None
    rex_b: bool | None
    lockable: bool

    @property
    def always_register(self) -> bool:
        """Whether mod is ignored and taken for 3."""
        return any(code.kind == "rm_as_register" for code in self.operands)

    @property
    def has_modrm(self) -> bool:
        """Whether a ModR/M byte follows the opcode."""
        return self.modrm is not None or self.fixed_modrm is not None

    def opcodes(self) -> range:
        """The opcode bytes that the row stands for: eight if a register sits in the low three bits."""
        return range(self.opcode, self.opcode + (8 if self.register_in_opcode else 1))

    def accepts_modrm(self, modrm: int) -> bool:
        """Whether the row allows this ModR/M byte."""
        if self.fixed_modrm is not None:
            return modrm == self.fixed_modrm
        if isinstance(self.modrm, int) and modrm >> 3 & 7 != self.modrm:
            return False
        return self.mode == "any" or (modrm >= 0xC0) == (self.mode == "register")

    def accepts_prefixes(self, prefixes: Prefixes) -> bool:
        """Whether the row allows these prefixes.  F2 and F3 take precedence over 66.  SDM 2A 2.1.2, 2D A.2.1"""
        if self.no_prefix and (prefixes.operand_size or prefixes.repeat):
            return False
        if self.mandatory == OPERAND_SIZE and (not prefixes.operand_size or prefixes.repeat):
            return False
        if self.mandatory in (REPNE, REP) and prefixes.repeat != self.mandatory:
            return False
        return (
            self.rex_w in (None, prefixes.rex_w)
            and self.rex_r in (None, prefixes.rex_r)
            and self.rex_b in (None, prefixes.rex_b)
        )

    def specificity(self) -> int:
        """How much the row asks for; of several rows that match, the one that asks for most is meant.

        A prefix that belongs to the opcode counts for more than a bit of REX: F3 41 90 is PAUSE.
        """
        constraints = (
            3 * (self.fixed_modrm is not None),  # mod, reg and r/m
            isinstance(self.modrm, int),
            self.mode != "any",
            2 * bool(self.mandatory),
            self.no_prefix,
            self.rex_w is not None,
            self.rex_r is not None,
            self.rex_b is not None,
            not self.register_in_opcode,
        )
        return sum(constraints)

    def operand_size(self, prefixes: Prefixes) -> int:
        """The operand size in bits: 16, 32 or 64.  SDM 1 3.6.1"""
        return widths.operand_size(self.row, prefixes.code_size, prefixes.operand_size, prefixes.rex_w)

    def operand_sizes(self, code_size: int) -> tuple[int, ...]:
        """The operand sizes that some choice of prefixes gives in code of a size."""
        return widths.operand_sizes(self.row, code_size)

    def exists(self, code_size: int) -> bool:
        """Whether the row is an instruction in code of a size; where it is not, its bytes are #UD."""
        return widths.exists(self.row, code_size)

    def widths(self, size: int) -> tuple[int | None, ...]:
        """The widths of the operands, which choose the body of the instruction."""
        return tuple(operand_width(code, size) for code in self.operands)


def pattern(row: EncodingRow, operands: Mapping[str, OperandCode]) -> Pattern:
    """Takes a row apart; `operands` is the operand table of the program."""
    values = tuple(byte.value for byte in row.opcode)
    escapes = _escape_length(values)
    opcode = row.opcode[escapes]
    rest = values[escapes + 1 :]
    codes = tuple(operands[name] for name in row.operands)
    prefixes = set(row.prefixes)
    return Pattern(
        row=row,
        operands=codes,
        escape=bytes(values[:escapes]),
        opcode=opcode.value & ~7 if opcode.register else opcode.value,
        register_in_opcode=opcode.register,
        modrm=row.modrm,
        fixed_modrm=rest[0] if rest else None,
        mode=_mode(codes),
        mandatory=next((int(p, 16) for p in row.prefixes if p in ("66", "F2", "F3")), 0),
        no_prefix="NP" in prefixes,
        rex_w=True if "REX.W" in prefixes else False if "W0" in prefixes else None,
        rex_r=True if "REX.R" in prefixes else None,
        rex_b=True if "REX.B" in prefixes else None,
        lockable="lock" in row.attributes,
    )


def _escape_length(opcode: tuple[int, ...]) -> int:
    if opcode[0] != 0x0F:
        return 0
    return 2 if opcode[1] in (0x38, 0x3A) else 1


def _mode(codes: tuple[OperandCode, ...]) -> str:
    kinds = {code.kind for code in codes}
    if "rm_memory" in kinds:
        return "memory"
    return "register" if "rm_register" in kinds else "any"


def other_address_size(code_size: int) -> int:
    """The address size that the prefix 67 asks for.  SDM 1 tables 3-3, 3-4"""
    return 16 if code_size == 32 else 32


def encoded_bits(code: OperandCode, size: int, address_bits: int = 64) -> int:
    """How many bits of the instruction an immediate, relative or offset operand takes; 0 for the other kinds."""
    if code.kind == "offset":
        return address_bits
    if code.kind not in TRAILING_KINDS:
        return 0
    return scaled_width(code.width, size) or 0
