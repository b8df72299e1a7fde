"""The operand sizes of an encoding row and the widths of its operands' values.  SDM 1 3.6.1, 2D A.2"""

from __future__ import annotations

from itertools import product

from grammar import ir

CODE_SIZES = (64, 32, 16)
"""What code can be: 64-bit mode, or compatibility mode with CS.D set or clear.  SDM 3A 3.4.5, 5.2.1"""


def exists(row: ir.EncodingRow, code_size: int) -> bool:
    """Whether the row is an instruction in code of that size.  SDM 2D table A-1, "i64" and "o64" """
    if code_size == 64:
        return "i64" not in row.attributes
    return "o64" not in row.attributes and not any(prefix.startswith("REX.") for prefix in row.prefixes)


def operand_size(row: ir.EncodingRow, code_size: int, is_prefixed: bool, is_wide: bool = False) -> int:
    """The operand size in bits, with or without the prefix 66 and REX.W.  SDM 1 tables 3-3, 3-4"""
    if code_size != 64:
        return 32 if (code_size == 32) != is_prefixed else 16
    if is_wide or "f64" in row.attributes:
        return 64
    if is_prefixed:
        return 16
    return 64 if "d64" in row.attributes else 32


def operand_sizes(row: ir.EncodingRow, code_size: int) -> tuple[int, ...]:
    """The operand sizes in bits that a row can have in code of a size, none if it does not exist there."""
    if not exists(row, code_size):
        return ()
    prefixed = (True,) if "66" in row.prefixes else (False,) if "NP" in row.prefixes else (False, True)
    wide = (True,) if "REX.W" in row.prefixes else (False,) if "W0" in row.prefixes else (False, True)
    return tuple(sorted({operand_size(row, code_size, *which) for which in product(prefixed, wide)}))


def every_operand_size(row: ir.EncodingRow) -> tuple[int, ...]:
    """The operand sizes that a row can have in any code."""
    return tuple(dict.fromkeys(size for code in CODE_SIZES for size in operand_sizes(row, code)))


def operand_width(code: ir.OperandCode, size: int) -> int | None:
    """The width in bits of an operand's value at an operand size; None for a mere address."""
    if code.kind in ("relative", "signed_immediate"):
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
