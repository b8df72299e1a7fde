"""Folds constants, so that a family's instances and unrolled loops hold only what is theirs."""

from __future__ import annotations

from grammar import ir

# Most expressions are one of these, and are done with at once.
_ATOMS = (ir.Local, ir.Literal, ir.Call, ir.Read, ir.OperandRead)


def literal_bool(value: bool) -> ir.Literal:
    """`true` or `false`."""
    return ir.Literal(ir.BOOL, int(value))


def mask(width: int) -> int:
    """`width` ones."""
    return (1 << width) - 1


def signed(value: int, width: int) -> int:
    """The two's-complement reading of `width` bits."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def fold(e: ir.Expr) -> ir.Expr:
    """`e` with its top node evaluated if its operands are literals; children were folded before."""
    if isinstance(e, _ATOMS):
        return e
    match e:
        case ir.Unary(type_, op, ir.Literal(_, value)):
            return ir.Literal(type_, _unary(type_, op, value))
        case ir.Binary(_, "and", ir.Literal(_, value), right):
            return right if value else literal_bool(False)
        case ir.Binary(_, "or", ir.Literal(_, value), right):
            return literal_bool(True) if value else right
        case ir.Binary(_, "and", left, ir.Literal(_, 1)) | ir.Binary(_, "or", left, ir.Literal(_, 0)):
            return left
        case ir.Binary(type_, op, ir.Literal(operand_type, left), ir.Literal(_, right)):
            width = 1 if isinstance(operand_type, (ir.Bool, ir.Struct)) else operand_type.width
            return ir.Literal(type_, binary(op, left, right, width))
        case ir.Conditional(_, ir.Literal(_, value), then, otherwise):
            return then if value else otherwise
        case ir.Slice(type_, ir.Literal(_, value), _, low):
            return ir.Literal(type_, value >> low & mask(type_.width))
        case ir.Bit(_, ir.Literal(_, value), ir.Literal(_, index)):
            return literal_bool(bool(value >> index & 1))
        case ir.Concat(type_, parts) if all(isinstance(p, ir.Literal) for p in parts):
            return ir.Literal(type_, _joined(parts))
        case ir.Cast(type_, ir.Literal(_, value)):
            return ir.Literal(type_, value)
        case ir.Extend(type_, ir.Literal(base, value), is_signed):
            width = 1 if isinstance(base, (ir.Bool, ir.Struct)) else base.width
            return ir.Literal(type_, (signed(value, width) if is_signed else value) & mask(type_.width))
        case _:
            return e


def _joined(parts: tuple[ir.Expr, ...]) -> int:
    value = 0
    for part in parts:
        if isinstance(part, ir.Literal) and not isinstance(part.type, (ir.Bool, ir.Struct)):
            value = value << part.type.width | part.value
    return value


def _unary(type_: ir.Type, op: str, value: int) -> int:
    if isinstance(type_, (ir.Bool, ir.Struct)):
        return 1 - value
    return (~value if op == "~" else -value) & mask(type_.width)


def binary(op: str, left: int, right: int, width: int) -> int:
    """The value of `left op right` on vectors of `width` bits (bool is one bit), SMT-LIB's rules for division."""
    match op:
        case "+":
            return (left + right) & mask(width)
        case "-":
            return (left - right) & mask(width)
        case "*":
            return (left * right) & mask(width)
        case "/":
            return left // right if right else mask(width)
        case "%":
            return left % right if right else left
        case "&" | "and":
            return left & right
        case "|" | "or":
            return left | right
        case "^":
            return left ^ right
        case "<<":
            return (left << right) & mask(width) if right < width else 0
        case ">>":
            return left >> right if right < width else 0
        case ">>s":
            return signed(left, width) >> min(right, width - 1) & mask(width)
        case _:
            if op.endswith("s"):
                op, left, right = op[:-1], signed(left, width), signed(right, width)
            return int(compare(op, left, right))


def compare(op: str, left: int, right: int) -> bool:
    """`left op right` on integers."""
    match op:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
    raise ValueError(f"unknown operator {op}")
