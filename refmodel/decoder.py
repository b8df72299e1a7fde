"""Bytes → instruction, its operands, and the generated function that executes it.

The decoder is nothing but the opcode rows of the specification, looked up by escape and opcode byte.  SDM 2A 2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from grammar.ir import Instruction, OperandCode, Program
from grammar.widths import operand_width
from refmodel import encoding
from refmodel.access import (
    Accessors,
    ImmediateAccess,
    MemoryAccess,
    OperandAccess,
    RegisterAccess,
    RelativeAccess,
    SpecialAccess,
)
from refmodel.addressing import ES, Cursor, ModRM, TooLong, Truncated, read_modrm
from refmodel.encoding import Pattern, Prefixes, encoded_bits, pattern

# By escape and opcode byte: the rows, with their instructions; None where the bytes are undefined.
OpcodeRows = dict[tuple[bytes, int], list[tuple[Pattern, Instruction | None]]]

Run = Callable[..., None]

__all__ = ["Decoded", "Decoder", "NotModelled", "TooLong", "Truncated"]

# Registers numbered 4 to 7 are AH, CH, DH and BH in a byte operand without REX.  SDM 1 3.4.1.1
_HIGH_BYTES = range(4, 8)


class NotModelled(Exception):
    """The bytes match no row of the specification: neither an instruction nor declared undefined."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"not in the specification: {data.hex(' ')}")
        self.data = data


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded instruction.

    `run(machine, *operands)` executes it. `instruction` and `pattern` are None where the bytes are undefined (#UD)
    or too long (#GP); `size` is the operand size and `address_size` the address size in bits.
    """

    data: bytes
    length: int
    run: Run
    operands: tuple[OperandAccess, ...] = ()
    instruction: Instruction | None = None
    pattern: Pattern | None = None
    size: int = 64
    address_size: int = 64
    prefixes: Prefixes = field(default_factory=Prefixes)
    lock: bool = False


@dataclass(slots=True)
class _Head:
    """The prefixes as they were read."""

    prefixes: Prefixes
    segment: int | None  # in 64-bit mode FS or GS; the other overrides have no effect there
    address_bits: int
    lock: bool


class Decoder:
    """Decodes code of one size with the opcode rows of a program; remembers what it decoded by the bytes."""

    def __init__(
        self,
        rows: OpcodeRows,
        functions: Mapping[str, Run],
        bodies: Mapping[str, Run],
        code_size: int = 64,
    ) -> None:
        self.code_size = code_size
        self.offset_mask = (1 << (64 if code_size == 64 else 32)) - 1  # of RIP or EIP
        self._bodies = bodies
        self._accessors = Accessors(functions)
        self._undefined = functions["#UD"]
        self._general_protection = functions["#GP"]
        self._rows = rows
        self.known: dict[bytes, Decoded] = {}

    def decode(self, data: bytes) -> Decoded:
        """Decodes the instruction that `data` begins with.

        Raises `Truncated` if the data end first, and `NotModelled` if no row matches.
        """
        known = self.known.get(data)
        if known is None:
            known = self.known[data] = self._decode(data)
        return known

    def _decode(self, data: bytes) -> Decoded:
        cursor = Cursor(data)
        try:
            return self._instruction(cursor)
        except TooLong:
            return Decoded(data, 0, lambda machine: self._general_protection(machine, 0))

    def _instruction(self, cursor: Cursor) -> Decoded:
        head = _read_head(cursor, self.code_size)
        if self._is_vex(cursor):
            raise NotModelled(cursor.data)
        escape, opcode = _read_opcode(cursor)
        candidates = self._rows.get((escape, opcode), [])
        modrm = cursor.peek() if any(p.has_modrm for p, _ in candidates) else 0
        chosen = choose_row(candidates, head.prefixes, modrm)
        if chosen is None:
            raise NotModelled(cursor.data)
        row, instruction = chosen
        place = (
            read_modrm(cursor, head.prefixes, head.address_bits, row.always_register)
            if row.has_modrm
            else None
        )
        if instruction is None or (head.lock and not _may_lock(row, place)):
            return Decoded(cursor.data, cursor.position, self._undefined)
        size = row.operand_size(head.prefixes)
        operands = tuple(self._operand(cursor, code, opcode, place, size, head) for code in row.operands)
        body = instruction.body(row.widths(size))
        return Decoded(
            cursor.data[: cursor.position],
            cursor.position,
            self._bodies[body.name],
            operands,
            instruction,
            row,
            size,
            head.address_bits,
            head.prefixes,
            head.lock,
        )

    def _is_vex(self, cursor: Cursor) -> bool:
        """Whether a VEX or EVEX prefix follows, and no instruction of the opcode tables."""
        if cursor.peek() not in encoding.VEX_PREFIXES:
            return False
        following = cursor.data[cursor.position + 1 : cursor.position + 2]
        return self.code_size == 64 or following >= b"\xc0"

    def _operand(
        self, cursor: Cursor, code: OperandCode, opcode: int, place: ModRM | None, size: int, head: _Head
    ) -> OperandAccess:
        width = operand_width(code, size)
        rex = head.prefixes
        match code.kind:
            case "rm" | "rm_memory" | "rm_register" | "rm_as_register" if place is not None:
                if place.mod == 3:
                    return self._register(place.register, width, rex)
                return self._memory(place, width, head)
            case "reg" if place is not None:
                return self._register(place.reg, width, rex)
            case "opcode_register":
                return self._register(opcode & 7 | rex.rex_b << 3, width, rex)
            case "control_register" | "debug_register" if place is not None:
                return SpecialAccess(code.kind, place.reg)
            case "segment_register" if place is not None:
                return SpecialAccess(code.kind, place.reg & 7)
            case "register":
                return self._register(code.register or 0, width, rex)
            case "memory_at":
                return self._memory(ModRM(0, 0, base=code.register), width, head)
            case "es_memory_at":
                return self._memory(ModRM(0, 0, base=code.register), width, replace(head, segment=ES))
            case "one":
                return ImmediateAccess(1, width or 8)
            case "offset":
                offset = cursor.unsigned(head.address_bits // 8)
                return self._memory(ModRM(0, 0, displacement=offset), width, head)
        return self._trailing(cursor, code, size, width)

    @staticmethod
    def _trailing(cursor: Cursor, code: OperandCode, size: int, width: int | None) -> OperandAccess:
        length = encoded_bits(code, size) // 8
        if code.kind == "relative":
            return RelativeAccess(cursor.signed(length), size)
        if code.kind == "signed_immediate":
            return ImmediateAccess(cursor.signed(length) & (1 << size) - 1, size)
        if code.kind == "immediate":
            return ImmediateAccess(cursor.unsigned(length), width or 8 * length)
        raise ValueError(f"unknown kind of operand: {code.kind}")

    def _register(self, number: int, width: int | None, prefixes: Prefixes) -> OperandAccess:
        high = width == 8 and not prefixes.rex and number in _HIGH_BYTES
        return RegisterAccess(self._accessors, number, width or 64, high)

    def _memory(self, place: ModRM, width: int | None, head: _Head) -> OperandAccess:
        segment = head.segment if head.segment is not None else place.default_segment
        return MemoryAccess(self._accessors, place, width, segment, head.address_bits)


def opcode_rows(program: Program) -> OpcodeRows:
    """All rows by escape and opcode byte, those that ask for most first."""
    rows: OpcodeRows = {}
    every = [(row, i) for i in program.instructions.values() for row in i.rows]
    for row, instruction in [*every, *((row, None) for row in program.undefined_encodings)]:
        taken = pattern(row, program.operands)
        for opcode in taken.opcodes():
            rows.setdefault((taken.escape, opcode), []).append((taken, instruction))
    for candidates in rows.values():
        candidates.sort(key=lambda candidate: -candidate[0].specificity())
    return rows


def choose_row(
    candidates: list[tuple[Pattern, Instruction | None]], prefixes: Prefixes, modrm: int
) -> tuple[Pattern, Instruction | None] | None:
    """The first row that the prefixes and the ModR/M byte (or what stands in its place) fit.

    Bytes that are an instruction only in code of another size are undefined.
    """
    elsewhere = None
    for candidate in candidates:
        row = candidate[0]
        if row.accepts_prefixes(prefixes) and (not row.has_modrm or row.accepts_modrm(modrm)):
            if row.exists(prefixes.code_size):
                return candidate
            elsewhere = elsewhere or (row, None)
    return elsewhere


def _may_lock(row: Pattern, place: ModRM | None) -> bool:
    """LOCK is allowed with some instructions, and then only if the destination is memory.  SDM 2A "LOCK" """
    return row.lockable and place is not None and place.mod != 3


def _read_head(cursor: Cursor, code_size: int) -> _Head:
    """Reads the prefixes.  REX is one in 64-bit mode only, and only right before the opcode.  SDM 2A 2.1.1, 2.2.1"""
    operand_size = lock = False
    repeat = rex = 0
    segment: int | None = None
    address_bits = code_size
    while True:
        byte = cursor.peek()
        if byte in encoding.LEGACY_PREFIXES:
            rex = 0
        elif byte & 0xF0 == 0x40 and code_size == 64:
            rex = byte
        else:
            return _Head(Prefixes(operand_size, repeat, rex, code_size), segment, address_bits, lock)
        cursor.skip()
        if byte == encoding.OPERAND_SIZE:
            operand_size = True
        elif byte == encoding.ADDRESS_SIZE:
            address_bits = encoding.other_address_size(code_size)
        elif byte in (encoding.REP, encoding.REPNE):
            repeat = byte
        elif byte == encoding.LOCK:
            lock = True
        elif byte in (0x64, 0x65) or code_size != 64:
            segment = encoding.SEGMENT_PREFIXES[byte]


def _read_opcode(cursor: Cursor) -> tuple[bytes, int]:
    opcode = cursor.unsigned(1)
    if opcode != 0x0F:
        return b"", opcode
    opcode = cursor.unsigned(1)
    if opcode not in (0x38, 0x3A):
        return b"\x0f", opcode
    return bytes((0x0F, opcode)), cursor.unsigned(1)
