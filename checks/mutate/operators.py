"""The mutation operators: small faults of the kinds that virtual-machine monitors have had.

Each yields (what it does, the replacement). A statement's replacement is None where it is dropped. All faults at one
place have operators of different names, since a mutant is known by its place and its operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

from checks.mutate.text import range_name, shown, statement_shown
from grammar import ir

Fault: TypeAlias = tuple[str, str, ir.Expr]
"""(operator, description, replacement)."""

_COMPARISONS = {
    "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "<s": "<=s", "<=s": "<s", ">s": ">=s", ">=s": ">s",
}  # fmt: skip
_ORDERED = frozenset({"-", "/", "%", "<", "<=", ">", ">=", "<s", "<=s", ">s", ">=s"})
_FALSE, _TRUE = ir.Literal(ir.BOOL, 0), ir.Literal(ir.BOOL, 1)

_DROPPED = {
    ir.WriteState: "drop write",
    ir.WriteMemory: "drop write",
    ir.WriteOperand: "drop write",
    ir.CallStatement: "drop call",
    ir.Forget: "drop forget",
    ir.Output: "drop output",
}
_EFFECTS = (ir.WriteState, ir.WriteMemory, ir.CallStatement)


def kind_of(operator: str) -> str:
    """The operator without the name of a field or the number of an argument."""
    return next((kind for kind in ("omit field", "swap arguments") if operator.startswith(kind)), operator)


def dropped(statement: ir.Stmt) -> tuple[str, str] | None:
    """(operator, description) if the statement can be left out."""
    operator = _DROPPED.get(type(statement))
    if isinstance(statement, ir.If):
        operator = f"drop {statement.clause}"
    if isinstance(statement, ir.SetLocal) and not statement.declares:
        operator = "drop assignment"
    return None if operator is None else (operator, statement_shown(statement))


def swapped(first: ir.Stmt, second: ir.Stmt) -> tuple[str, str] | None:
    """(operator, description) if two neighbours can change places: two effects, or two checks or exits."""
    both_effects = isinstance(first, _EFFECTS) and isinstance(second, _EFFECTS)
    both_clauses = (
        isinstance(first, ir.If)
        and isinstance(second, ir.If)
        and {first.clause, second.clause} <= {"check", "exit"}
    )
    if not both_effects and not both_clauses:
        return None
    return "reorder", f"{statement_shown(second)} before {statement_shown(first)}"


def faults(node: ir.Expr) -> Iterator[Fault]:
    """All faults at the root of an expression."""
    match node:
        case ir.Binary():
            yield from _binary(node)
        case ir.Unary(op="not"):
            yield "negate", f"{shown(node.operand)} for {shown(node)}", node.operand
        case ir.Bit(index=ir.Literal()):
            yield "clear control", f"{shown(node)} taken as false", _FALSE
            yield "set control", f"{shown(node)} taken as true", _TRUE
        case ir.Slice():
            yield from _narrowed(node)
        case ir.Conditional():
            yield "choose then", f"always {shown(node.then)}", node.then
            yield "choose else", f"always {shown(node.otherwise)}", node.otherwise
        case ir.ForAll():
            yield from _one_left_out(node)
        case ir.UpdateBits():
            yield from _unchanged(node)
        case ir.Call():
            yield from _arguments_swapped(node)
        case ir.Literal(type=ir.Enum()):
            yield from _other_member(node)


def _binary(node: ir.Binary) -> Iterator[Fault]:
    if node.op in ("and", "or"):
        yield f"drop left of {node.op}", f"without {shown(node.left)}", node.right
        yield f"drop right of {node.op}", f"without {shown(node.right)}", node.left
    if node.op in _COMPARISONS:
        changed = replace(node, op=_COMPARISONS[node.op])
        yield "comparison", f"{shown(changed)} for {shown(node)}", changed
    if node.op in _ORDERED:
        changed = replace(node, left=node.right, right=node.left)
        yield "swap operands", f"{shown(changed)} for {shown(node)}", changed
    if isinstance(node.right, ir.Literal) and isinstance(node.right.type, (ir.Bits, ir.Newtype)):
        changed = replace(node, right=_next(node.right, node.right.type.width))
        yield "off by one", f"{shown(changed)} for {shown(node)}", changed


def _next(literal: ir.Literal, width: int) -> ir.Literal:
    return replace(literal, value=(literal.value + 1) % (1 << width))


def _narrowed(node: ir.Slice) -> Iterator[Fault]:
    """The slice without its highest bit."""
    if node.high > node.low:
        inner = replace(node, type=ir.Bits(node.high - node.low), high=node.high - 1)
        name = range_name(node.base.type, node.high, node.low)
        yield (
            "narrow",
            f"{shown(node.base)}: {name} without its bit {node.high}",
            ir.Extend(node.type, inner, signed=False),
        )


def _one_left_out(node: ir.ForAll) -> Iterator[Fault]:
    one = ir.Literal(node.first.type, 1)
    without_first = replace(node, first=ir.Binary(node.first.type, "+", node.first, one))
    without_last = replace(node, last=ir.Binary(node.last.type, "-", node.last, one))
    for operator, changed in (("skip first", without_first), ("skip last", without_last)):
        yield operator, f"{shown(changed)} for {shown(node)}", changed


def _unchanged(node: ir.UpdateBits) -> Iterator[Fault]:
    for i, (high, low, _) in enumerate(node.changes):
        kept = (*node.changes[:i], *node.changes[i + 1 :])
        field = range_name(node.type, high, low)
        rest = replace(node, changes=kept) if kept else node.base
        yield f"omit field {field}", f"{node.type} without {field}", rest


def _arguments_swapped(node: ir.Call) -> Iterator[Fault]:
    for i, (left, right) in enumerate(pairwise(node.arguments)):
        if left.type == right.type and left != right:
            arguments = (*node.arguments[:i], right, left, *node.arguments[i + 2 :])
            changed = replace(node, arguments=arguments)
            yield f"swap arguments {i}", f"{shown(changed)} for {shown(node)}", changed


def _other_member(node: ir.Literal) -> Iterator[Fault]:
    assert isinstance(node.type, ir.Enum)
    values = [value for _, value in node.type.members]
    if node.value in values and len(values) > 1:
        changed = replace(node, value=values[(values.index(node.value) + 1) % len(values)])
        yield "other member", f"{shown(changed)} for {shown(node)}", changed
