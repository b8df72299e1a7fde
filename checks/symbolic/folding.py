"""Operators on constants, and operations that a constant makes trivial."""

from __future__ import annotations

from typing import TypeVar

Term = TypeVar("Term")


def signed(value: int, width: int) -> int:
    """`value`, `width` bits of two's complement, as a Python integer."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def fold_arithmetic(op: str, a: int, b: int, width: int) -> int:
    """The value of an operator of `Terms.arithmetic`; division by zero as in SMT-LIB."""
    ones = (1 << width) - 1
    match op:
        case "+":
            return (a + b) & ones
        case "-":
            return (a - b) & ones
        case "*":
            return (a * b) & ones
        case "/":
            return a // b if b else ones
        case "%":
            return a % b if b else a
        case "&":
            return a & b
        case "|":
            return a | b
        case "^":
            return a ^ b
        case "<<":
            return (a << b) & ones if b < width else 0
        case ">>":
            return a >> b if b < width else 0
        case ">>s":
            return (signed(a, width) >> min(b, width - 1)) & ones
    raise ValueError(op)


def fold_comparison(op: str, a: int, b: int, width: int) -> bool:
    """The value of an operator of `Terms.compare`."""
    if op.endswith("s"):
        a, b = signed(a, width), signed(b, width)
    match op.removesuffix("s"):
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
    raise ValueError(op)


def neutral(op: str, a: int | Term, b: int | Term, width: int) -> int | Term | None:
    """The result where one side is a constant that makes it trivial, else None."""
    ones = (1 << width) - 1
    if isinstance(a, int) and a == 0 and op in ("<<", ">>", ">>s"):
        return 0
    if isinstance(a, int) and op in ("+", "&", "|", "^", "*"):
        a, b = b, a
    if not isinstance(b, int):
        return None
    if b == 0 and op in ("&", "*"):
        return 0
    if (b == 0 and op in ("+", "-", "|", "^", "<<", ">>", ">>s")) or (b == ones and op == "&"):
        return a
    return ones if b == ones and op == "|" else None
