"""Operators of the IR on symbolic values: everything that needs no state."""

from __future__ import annotations

from typing import cast

from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, choose, equal, width_of
from grammar import ir

_SHIFTS = ("<<", ">>", ">>s")
_ORDERS = ("<", "<=", ">", ">=", "<s", "<=s", ">s", ">=s")


def unary(terms: Terms, node: ir.Unary, operand: Value) -> Value:
    """`not`, `~` or `-` of an operand."""
    if node.op == "not":
        return terms.negation(cast(Truth, operand))
    apply = terms.complement if node.op == "~" else terms.negate
    return apply(cast(Vector, operand), width_of(node.type))


def binary(terms: Terms, node: ir.Binary, left: Value, right: Value) -> Value:
    """Any binary operator."""
    type_ = node.left.type
    if node.op in ("==", "!="):
        is_equal = equal(terms, left, right, type_)
        return is_equal if node.op == "==" else terms.negation(is_equal)
    if isinstance(type_, ir.Bool):
        return _binary_bool(terms, node.op, cast(Truth, left), cast(Truth, right))
    a, b, width = cast(Vector, left), cast(Vector, right), width_of(type_)
    if node.op in _ORDERS:
        return terms.compare(node.op, a, b, width)
    if node.op in _SHIFTS:
        return terms.shift(node.op, a, b, width, width_of(node.right.type))
    return terms.arithmetic(node.op, a, b, width)


def _binary_bool(terms: Terms, op: str, a: Truth, b: Truth) -> Truth:
    match op:
        case "and" | "&":
            return terms.conjunction((a, b))
        case "or" | "|":
            return terms.disjunction((a, b))
        case "^":
            return terms.exclusive(a, b)
    raise ValueError(f"operator {op} on bool")


def extend(terms: Terms, node: ir.Extend, base: Value) -> Vector:
    """A vector, or a bool as one bit, widened."""
    type_ = node.base.type
    vector = terms.as_vector(cast(Truth, base)) if isinstance(type_, ir.Bool) else cast(Vector, base)
    return terms.extend(vector, width_of(type_), node.type.width, is_signed=node.signed)


def update_bits(terms: Terms, base: Vector, width: int, changes: list[tuple[int, int, Vector]]) -> Vector:
    """`base` with the bits `high` to `low` of each change replaced; a later change wins over an earlier one."""
    for high, low, value in changes:
        parts: list[tuple[Vector, int]] = []
        if high + 1 < width:
            parts.append((terms.extract(base, width - 1, high + 1), width - 1 - high))
        parts.append((value, high - low + 1))
        if low > 0:
            parts.append((terms.extract(base, low - 1, 0), low))
        base = terms.concat(parts)
    return base


def conditional(terms: Terms, node: ir.Conditional, condition: Value, then: Value, otherwise: Value) -> Value:
    """`if C then A else B`."""
    return choose(terms, cast(Truth, condition), then, otherwise, node.type)
