"""Leaves out what a member of a family or a width made constant, so that the generated text has no dead parts.

Only operators without effects are looked at; what may raise does not stand under them (docs/language.md).
"""

from __future__ import annotations

from grammar import ir

_NEUTRAL_ZERO = frozenset({"+", "-", "|", "^", "<<", ">>"})


def simplified(expression: ir.Expr) -> ir.Expr:
    """The expression without its constant outermost operators."""
    match expression:
        case ir.Binary(op="and" | "or" as op, left=left, right=right):
            return _connective(expression, op == "or", simplified(left), simplified(right))
        case ir.Binary(op=op, left=left, right=right) if op in _NEUTRAL_ZERO and _is_zero(simplified(right)):
            return simplified(left) if isinstance(left.type, type(expression.type)) else expression
        case ir.Extend(type=type_, base=base, signed=False):
            inner = simplified(base)
            return ir.Literal(type_, inner.value) if isinstance(inner, ir.Literal) else expression
        case ir.Conditional(condition=condition, then=then, otherwise=otherwise):
            known = simplified(condition)
            if isinstance(known, ir.Literal):
                return simplified(then if known.value else otherwise)
    return expression


def _connective(expression: ir.Binary, decisive: bool, left: ir.Expr, right: ir.Expr) -> ir.Expr:
    """`and` (decided by false) or `or` (decided by true)."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, ir.Literal):
            return one if bool(one.value) == decisive else other
    return expression


def _is_zero(expression: ir.Expr) -> bool:
    return isinstance(expression, ir.Literal) and expression.value == 0
