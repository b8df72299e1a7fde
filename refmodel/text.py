"""A decoded instruction as assembly text, in the syntax that the assembler reads."""

from __future__ import annotations

from refmodel.access import OperandAccess, RelativeAccess
from refmodel.decoder import Decoded
from refmodel.encoding import REP
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import GENERAL, SEGMENT, Register, name_of
from refmodel.syntax import template

_MASK_64 = (1 << 64) - 1
_SIZE_WORDS = {8: "byte ", 16: "word ", 32: "dword ", 64: "qword ", 128: "oword "}


def text(decoded: Decoded, rip: int) -> str:
    """The instruction at linear address `rip`."""
    if decoded.instruction is None or decoded.pattern is None:
        return f"(undefined) {decoded.data.hex(' ')}"
    written = template(decoded.instruction, decoded.pattern.widths(decoded.size))
    by_name = dict(zip(decoded.instruction.operands, decoded.operands, strict=True))
    following = rip + decoded.length & _MASK_64
    operands = (
        _access_text(by_name[place], following) if isinstance(place, str) else operand_text(place, following)
        for place in written.operands
    )
    return f"{_prefixes(decoded)}{written.mnemonics[0]} {', '.join(operands)}".rstrip()


def _prefixes(decoded: Decoded) -> str:
    """The prefixes that are written as words before the mnemonic."""
    attributes = decoded.pattern.row.attributes if decoded.pattern is not None else ()
    repeat = decoded.prefixes.repeat
    if decoded.lock:
        return "lock "
    if repeat and "repe" in attributes:
        return "repe " if repeat == REP else "repne "
    return "rep " if repeat and "rep" in attributes else ""


def _access_text(access: OperandAccess, following: int) -> str:
    if isinstance(access, RelativeAccess):
        return f"{following + access.distance & access.mask:#x}"
    return operand_text(access.written, following)


def operand_text(operand: Operand, following: int) -> str:
    """An operand; `following` is the address of the next instruction, which RIP-relative operands count from."""
    match operand:
        case Register():
            return name_of(operand)
        case Immediate(value=value):
            return str(value) if 0 <= value < 10 else f"{value:#x}"
        case Memory():
            return f"{_SIZE_WORDS.get(operand.width or 0, '')}[{_address_text(operand, following)}]"


def _address_text(memory: Memory, following: int) -> str:
    segment = f"{name_of(Register(SEGMENT, memory.segment, 16))}:" if memory.segment is not None else ""
    if memory.relative:
        return f"{segment}rel {following + memory.displacement & _MASK_64:#x}"
    parts = []
    if memory.base is not None:
        parts.append(name_of(Register(GENERAL, memory.base, memory.address_width)))
    if memory.index is not None:
        scale = f"*{memory.scale}" if memory.scale > 1 else ""
        parts.append(name_of(Register(GENERAL, memory.index, memory.address_width)) + scale)
    if not parts:
        return f"{segment}{memory.displacement & _MASK_64:#x}"
    registers = " + ".join(parts)
    if memory.displacement:
        sign = "-" if memory.displacement < 0 else "+"
        return f"{segment}{registers} {sign} {abs(memory.displacement):#x}"
    return segment + registers
