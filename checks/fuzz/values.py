"""Values at which something changes: the ends of every width, and the constants that an instruction's text compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

from grammar import ir

WIDTHS = (8, 16, 32, 64)
MASK_64 = (1 << 64) - 1


@cache
def boundaries() -> tuple[int, ...]:
    """Zero, one, and the values around each width's sign and end, as 64-bit numbers."""
    found = {0, 1, 2, MASK_64}
    for width in WIDTHS:
        for edge in (1 << width - 1, 1 << width):
            found |= {edge - 1 & MASK_64, edge & MASK_64, edge + 1 & MASK_64, -edge & MASK_64}
    return tuple(sorted(found))


def constants_of(instruction: ir.Instruction) -> tuple[int, ...]:
    """The numbers that stand in an instruction's text, each with its neighbours."""
    found = {literal.value for body in instruction.bodies for literal in _literals(body.body)}
    return tuple(sorted({n & MASK_64 for value in found for n in (value - 1, value, value + 1)}))


def _literals(node: Any) -> Iterator[ir.Literal]:
    """All vector literals in a piece of IR."""
    if isinstance(node, ir.Literal):
        if not isinstance(node.type, ir.Bool):
            yield node
    elif isinstance(node, tuple):
        for part in node:
            yield from _literals(part)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        for field in dataclasses.fields(node):
            yield from _literals(getattr(node, field.name))


def flag_bits(program: ir.Program, bitfield: str, excluded: frozenset[str]) -> tuple[int, ...]:
    """The single bits of a bitfield as masks, without the excluded ones."""
    type_ = program.types[bitfield]
    if not isinstance(type_, ir.Bitfield):
        raise TypeError(f"{bitfield} is not a bitfield")
    return tuple(1 << m.low for m in type_.members if m.high == m.low and m.name not in excluded)
