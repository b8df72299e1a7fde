"""Rows of the opcode tables that match the same bytes without one asking for more than the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

from grammar.diagnostics import Diagnostic
from grammar.ir import Instruction, Program
from grammar.widths import CODE_SIZES
from refmodel.decoder import opcode_rows
from refmodel.encoding import REP, REPNE, Pattern, Prefixes

Candidate = tuple[Pattern, Instruction | None]
_PREFIXES = tuple(
    Prefixes(operand_size, repeat, rex)
    for operand_size, repeat, rex in product((False, True), (0, REPNE, REP), (0, *range(0x40, 0x50)))
)


def overlaps(program: Program) -> Iterator[Diagnostic]:
    """An error for each pair of rows between which nothing decides."""
    for (escape, opcode), candidates in opcode_rows(program).items():
        for one, other in combinations(candidates, 2):
            if one[0].specificity() == other[0].specificity() and _meet(one[0], other[0]):
                code = f"{escape.hex(' ')} {opcode:02x}".strip()
                message = (
                    f"{_told(other)} and {_told(one)} both claim {code}, with the same prefixes and ModR/M"
                )
                yield Diagnostic("overlap", message, other[0].row.span, ((one[0].row.span, _told(one)),))


def _meet(one: Pattern, other: Pattern) -> bool:
    """Whether some code, prefixes and ModR/M byte fit both rows."""
    if not any(one.exists(size) and other.exists(size) for size in CODE_SIZES):
        return False
    modrm = one.has_modrm or other.has_modrm
    bytes_fit = any(_fits(one, byte) and _fits(other, byte) for byte in range(256)) if modrm else True
    return bytes_fit and any(one.accepts_prefixes(p) and other.accepts_prefixes(p) for p in _PREFIXES)


def _fits(row: Pattern, modrm: int) -> bool:
    return not row.has_modrm or row.accepts_modrm(modrm)


def _told(candidate: Candidate) -> str:
    _, instruction = candidate
    return instruction.name if instruction else "undefined_encoding"
