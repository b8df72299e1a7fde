"""The space of encodings: prefixes, REX, opcode maps, ModR/M and SIB, with fixed bytes behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import product

from refmodel.encoding import ADDRESS_SIZE, LEGACY_PREFIXES, LOCK, OPERAND_SIZE, REP, REPNE

MAPS = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
# Behind ModR/M stand displacements and immediates; all bytes differ, so that one taken for another shows. As a SIB byte
# the first is RBX + RCX*2.
REST = bytes((0x4B, 0x12, 0x23, 0x34, 0x45, 0x56, 0x67, 0x08, 0x19, 0x2A, 0x3B))
PREFIXES = (0, OPERAND_SIZE, REP, REPNE)
REX = (0, 0x41, 0x44, 0x4A)
# Outside 64-bit mode there is no REX.
NO_REX = (0,)
# One ModR/M byte for every kind of place (disp32, register, SIB with disp8) and every reg field.
MODRM = tuple(mod << 6 | reg << 3 | rm for mod, rm in ((0, 5), (3, 1), (1, 4)) for reg in range(8))
# Prefixes that change no row, but the length and the operands.
OTHERS = (ADDRESS_SIZE, LOCK, 0x2E, 0x64)


Code = tuple[bytes, int, bytes]
"""The escape bytes, the opcode byte, and the whole code."""


def sampled_codes(code_size: int) -> Iterator[Code]:
    """Every opcode with each prefix and REX bit that rows ask for, every ModR/M byte without them, every SIB byte."""
    for prefix, rex in product(PREFIXES, REX if code_size == 64 else NO_REX):
        yield from _codes(_head((prefix, rex)), MODRM, code_size)
    for prefix in OTHERS:
        yield from _codes(_head((prefix,)), MODRM, code_size)
    yield from _codes(b"", range(256), code_size)
    yield from _sib_codes(code_size)


def every_code(code_size: int, plain: Collection[tuple[bytes, int]] = ()) -> Iterator[Code]:
    """Every opcode and ModR/M byte with all that chooses a row, and with each other prefix; some 20 million codes.

    What chooses is 66, F2 or F3, and REX: all of them with all others. Another prefix changes the operands only, and in
    a row of two the last may count: with every ModR/M byte stands one of the former, with some every two.
    The opcodes `plain` have no ModR/M byte: the bytes in its place are fewer.
    """
    every_rex, some_rex = ((0, *range(0x40, 0x50)), REX) if code_size == 64 else (NO_REX, NO_REX)
    for size, repeat, rex in product((0, OPERAND_SIZE), (0, REP, REPNE), every_rex):
        yield from _codes(_head((size, repeat, rex)), range(256), code_size, plain)
    for other, rex in product(OTHERS, some_rex):
        yield from _codes(_head((other, rex)), range(256), code_size, plain)
    for first, second in product((*PREFIXES[1:], *OTHERS), repeat=2):
        yield from _codes(_head((first, second)), MODRM, code_size)
    yield from _sib_codes(code_size)


def _head(prefixes: tuple[int, ...]) -> bytes:
    return bytes(prefix for prefix in prefixes if prefix)


def _codes(
    head: bytes, modrm: Iterable[int], code_size: int, plain: Collection[tuple[bytes, int]] = ()
) -> Iterator[Code]:
    places, few = ([bytes((byte,)) + REST for byte in chosen] for chosen in (modrm, MODRM))
    for escape, opcode in product(MAPS, range(256)):
        start = head + escape + bytes((opcode,))
        if _is_opcode(escape, opcode, code_size):
            behind = few if (escape, opcode) in plain else places
            yield from ((escape, opcode, start + place) for place in behind)


def _is_opcode(escape: bytes, opcode: int, code_size: int) -> bool:
    """Not a prefix, and not the escape to another map."""
    if escape == b"":
        is_rex = code_size == 64 and 0x40 <= opcode < 0x50
        return opcode != 0x0F and not is_rex and opcode not in LEGACY_PREFIXES
    return escape != b"\x0f" or opcode not in (0x38, 0x3A)


def _sib_codes(code_size: int) -> Iterator[Code]:
    """MOV EAX with every SIB byte, mod and REX byte."""
    for rex, mod, sib in product(range(0x40, 0x50) if code_size == 64 else NO_REX, range(3), range(256)):
        yield b"", 0x8B, _head((rex,)) + bytes((0x8B, mod << 6 | 4, sib)) + REST
