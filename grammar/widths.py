"""The operand sizes of an encoding row and the widths of its operands' values.  SDM 1 3.6.1, 2D A.2"""

from __future__ import annotations

from grammar import ir


def operand_sizes(row: ir.EncodingRow) -> tuple[int, ...]:
    """The operand sizes in bits that a row can have."""
    if "REX.W" in row.prefixes or "f64" in row.attributes:
        return (64,)
    if "66" in row.prefixes:
        return (16,) if "d64" in row.attributes or "W0" in row.prefixes else (16, 64)
    sizes: tuple[int, ...] = (16, 64) if "d64" in row.attributes else (16, 32, 64)
    if "W0" in row.prefixes:
        sizes = tuple(s for s in sizes if s != 64)
    return tuple(s for s in sizes if s != 16) if "NP" in row.prefixes else sizes


def operand_width(code: ir.OperandCode, size: int) -> int | None:
    """The width in bits of an operand's value at an operand size; None for a mere address."""
    if code.kind == "relative":
        return 64
    if code.kind == "signed_immediate":
        return size
    return scaled_width(code.width, size)


def scaled_width(width: int | str | None, size: int) -> int | None:
    """A width of the operand table at an operand size: v is the size, z at most 32, y at least 32."""
    match width:
        case "v":
            return size
        case "z":
            return min(size, 32)
        case "y":
            return max(size, 32)
        case int() | None:
            return width
    raise ValueError(f"unknown width {width}")
