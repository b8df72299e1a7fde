"""The largest value an expression can have, so that masks stand only where a result can grow beyond its width."""

from __future__ import annotations

from grammar import ir


def ones(width: int) -> int:
    """`width` one bits."""
    return (1 << width) - 1


def width_of(type_: ir.Type | None) -> int:
    """The number of bits of a vector; a bool counts as one."""
    if isinstance(type_, ir.Bits | ir.Newtype | ir.Enum | ir.Bitfield):
        return type_.width
    if isinstance(type_, ir.Bool):
        return 1
    raise TypeError(f"{type_} has no width")


def bound(expression: ir.Expr) -> int:
    """An upper bound of the value, at most all ones of its type."""
    limit = ones(width_of(expression.type))
    match expression:
        case ir.Literal(value=value):
            return value
        case ir.Extend(base=base, signed=False) | ir.Cast(base=base):
            return bound(base)
        case ir.Slice(base=base, low=low):
            return min(limit, bound(base) >> low)
        case ir.Conditional(then=then, otherwise=otherwise):
            return max(bound(then), bound(otherwise))
        case ir.Binary(op=op, left=left, right=right) if not isinstance(expression.type, ir.Bool):
            return min(limit, grown(op, left, right, limit))
    return limit


def grown(op: str, left: ir.Expr, right: ir.Expr, limit: int) -> int:
    """A bound of `left op right` before it wraps; beyond `limit` where nothing is known."""
    match op:
        case "+":
            return bound(left) + bound(right)
        case "*":
            return bound(left) * bound(right)
        case "&":
            return min(bound(left), bound(right))
        case "|" | "^":
            return ones(max(bound(left).bit_length(), bound(right).bit_length()))
        case "<<" if isinstance(right, ir.Literal) and right.value <= width_of(left.type):
            return bound(left) << right.value
        case ">>":
            return bound(left) >> right.value if isinstance(right, ir.Literal) else bound(left)
        case "%" if isinstance(right, ir.Literal) and right.value:
            return right.value - 1
        case "/" if isinstance(right, ir.Literal) and right.value:
            return bound(left) // right.value
    return limit + 1
