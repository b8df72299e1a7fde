"""The fast model's decoder against the reference's, by enumeration of opcode, ModR/M, SIB, prefixes and REX.

Both decode the same bytes. Where the fast decoder does not leave an instruction to the reference, its handler is that
of the instruction with these operand widths and kinds, and the fields of the decoded instruction are the operands' own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import product

from fastmodel import backends, decoded, decoder
from fastmodel import state as layout
from fastmodel.block import Block, Shared
from fastmodel.compiler.plain import PlainProgram
from fastmodel.compiler.primitives import set_field
from fastmodel.compiler.program import instance
from fastmodel.handlers import HANDLERS, Handler
from fastmodel.handlers.registry import REPEAT
from refmodel.access import ImmediateAccess, MemoryAccess, OperandAccess, RegisterAccess, RelativeAccess
from refmodel.decoder import Decoded, NotModelled
from refmodel.encoding import MAX_LENGTH
from refmodel.model import Model
from refmodel.registers import GENERAL, HIGH_BYTE

RIP = 0x1000
MOST_KNOWN = 1 << 12  # of the codes that the reference's decoder remembers
MASK = (1 << 64) - 1
FS, GS = 4, 5
RCX = 1
TAIL = bytes(range(0x81, 0x89))  # displacement and immediate; negative ones of each size
PREFIXES = (b"", b"\x66", b"\xf2", b"\xf3", b"\xf0", b"\x67", b"\x64", b"\x2e", b"\x66\xf3", b"\xf3\x66")
REX = (b"", *(bytes((0x40 | bits,)) for bits in range(16)))
PLAIN_MODRM = (0x00, 0x05, 0x0D, 0x44, 0x87, 0xC1, 0xD8, 0xE5, 0xF6, 0xFF)
SIBS = (0x24, 0x65, 0x25, 0xE0, 0x4B)


def codes(*, all_of_them: bool) -> Iterator[bytes]:
    """Instructions to decode: all opcodes with every ModR/M byte, and with every prefix and REX some; or a sample."""
    opcodes = [escape + bytes((byte,)) for escape in (b"", b"\x0f") for byte in range(256)]
    for opcode in opcodes:
        for modrm in range(256) if all_of_them else PLAIN_MODRM:
            for sib in range(256) if all_of_them and _has_sib(modrm) else SIBS[:1]:
                yield opcode + bytes((modrm, sib)) + TAIL
        some = PLAIN_MODRM if all_of_them else PLAIN_MODRM[::4]
        heads = product(PREFIXES, REX if all_of_them else REX[::5])
        for (prefix, rex), modrm in product(heads, some):
            for sib in SIBS if all_of_them and _has_sib(modrm) else SIBS[1:2]:
                yield prefix + rex + opcode + bytes((modrm, sib)) + TAIL


def _has_sib(modrm: int) -> bool:
    return modrm >> 6 != 3 and modrm & 7 == 4


class Decoders:
    """Both decoders; `refused` counts what the fast one leaves to the reference."""

    def __init__(self, model: Model) -> None:
        self._reference = model.decoder
        self._memory = model.machine(0x2000).PHYSICAL
        backend = backends.choose(backends.PlainBackend.name)
        self._block = Block(Shared(model.program, self._memory, backend))
        self._u = ctypes.create_string_buffer(decoded.DECODED_SIZE)
        self._decode = PlainProgram({}).function(instance(decoder.decode_instruction))
        by_name = {handler.name: handler for handler in HANDLERS}
        self._handlers = {code: by_name.get(name) for name, code in backend.codes.items()}
        self.refused = 0

    def difference(self, code: bytes) -> str:
        """How the two decode an instruction differently, "" if they do not."""
        code = code.ljust(MAX_LENGTH, b"\0")  # what is taken for an opcode here may be a prefix
        self._memory.write_bytes(RIP, code + bytes(decoder.READ_AHEAD))
        u, host = ctypes.addressof(self._u), self._memory.address + RIP
        ctypes.memset(u, 0xEE, decoded.DECODED_SIZE)
        set_field(64, u + decoded.ADDRESS, RIP)
        self._decode(self._block.address, u, host, host + 0x1000)
        handler = self._handlers[self._field(decoded.CODE)]
        if handler is None:
            self.refused += 1
            return ""
        if len(self._reference.known) > MOST_KNOWN:
            self._reference.known.clear()
        try:
            wanted = self._reference.decode(code)
        except NotModelled:
            return "the reference does not know it"
        return next(self._differences(handler, wanted), "")

    def _field(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(self._u.raw[offset : offset + size], "little")

    def _differences(self, handler: Handler, wanted: Decoded) -> Iterator[str]:
        instruction, pattern = wanted.instruction, wanted.pattern
        if instruction is None or pattern is None:
            yield f"undefined, and not {handler.name}"
            return
        if handler.instruction not in (instruction.name, instruction.family):
            yield f"{instruction.name}, and not {handler.name}"
        if handler.widths != pattern.widths(wanted.size) or wanted.address_size != 64:
            yield f"widths of {handler.name}"
        if self._field(decoded.NEXT) != RIP + wanted.length:
            yield f"length {wanted.length}"
        if handler.flow == REPEAT and self._field(decoded.REPEAT, 1) != wanted.prefixes.repeat:
            yield f"repeat prefix {wanted.prefixes.repeat:#x}"
        kinds = [code.kind for code in pattern.operands]
        if len(handler.form) != len(kinds):
            yield f"operands of {handler.name}"
        for position, (letter, operand, kind) in enumerate(
            zip(handler.form, wanted.operands, kinds, strict=True)
        ):
            is_string = kind in ("memory_at", "es_memory_at")
            if not is_string and not self._is_same(letter, operand, position, handler, wanted):
                yield f"operand {operand.written}"

    def _is_same(
        self, letter: str, operand: OperandAccess, position: int, handler: Handler, wanted: Decoded
    ) -> bool:
        """Whether the fields of the decoded instruction are those of an operand."""
        match operand:
            case RegisterAccess() if letter == "r":
                is_high = getattr(operand.written, "kind", GENERAL) == HIGH_BYTE
                offset = (operand.index & 3) * 8 + 1 if is_high else operand.index * 8
                fields = (decoded.FIRST, decoded.SECOND)
                return self._field(fields[position], 1) == offset if position < 2 else operand.index == RCX
            case MemoryAccess() if letter == "m":
                return operand.segment not in (FS, GS) and self._is_same_address(operand, wanted)
            case ImmediateAccess() if letter == "i":
                width = handler.widths[position] or 64
                return (self._field(decoded.IMMEDIATE) ^ operand.value) & (1 << width) - 1 == 0
            case RelativeAccess() if letter == "i":
                return self._field(decoded.IMMEDIATE) == (RIP + wanted.length + operand.distance) & MASK
        return False

    def _is_same_address(self, operand: MemoryAccess, wanted: Decoded) -> bool:
        place = operand.place
        displacement = place.displacement + (RIP + wanted.length if place.rip_relative else 0)
        base, index = (layout.ZERO if number is None else 8 * number for number in (place.base, place.index))
        found = (
            self._field(decoded.BASE, 1),
            self._field(decoded.INDEX, 1),
            self._field(decoded.DISPLACEMENT),
        )
        has_scale = place.index is None or 1 << self._field(decoded.SCALE, 1) == place.scale
        return found == (base, index, displacement & MASK) and has_scale
