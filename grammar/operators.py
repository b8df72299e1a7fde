"""Type-checks operators: both sides brought to one type, literals taking the type of the other side."""

from __future__ import annotations

from grammar import ir
from grammar.context import Context, Expectation, conversion_hint
from grammar.environment import fail, width_of
from grammar.fold import compare, fold
from grammar.tree import Node

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "<s", "<=s", ">s", ">=s"})
_LOGICAL = frozenset({"&", "|", "^", "==", "!="})


class OperatorChecker(Context):
    """Unary and binary operators, concatenation, conversion, conditional expressions, `for all` and `in`."""

    def _unary(self, node: Node, expected: Expectation) -> ir.Expr:
        operator = str(node.children[0])
        if operator == "not":
            return ir.Unary(ir.BOOL, "not", self.condition(node.children[1]))
        operand = self.infer(node.children[1], expected)
        if width_of(operand.type) is None:
            raise fail(
                "type",
                f"'{operator}' needs a vector, found {operand.type}",
                self.span(node),
                hint="use `not` on bool" if operator == "~" else "",
            )
        return ir.Unary(operand.type, operator, operand)

    def _binary(self, node: Node, operator: str, left: Node, right: Node, expected: Expectation) -> ir.Expr:
        if operator in ("and", "or"):
            first = self.condition(left)
            with self.scope.conditional():
                return ir.Binary(ir.BOOL, operator, first, self.condition(right))
        if operator in ("<<", ">>", ">>s"):
            value = self.infer(left, expected)
            self._vector(value, left, operator)
            amount = self.infer(right, ir.bits(16)) if self.needs_context(right) else self.infer(right)
            self._vector(amount, right, operator)
            return ir.Binary(value.type, operator, value, amount)
        is_comparison = operator in _COMPARISONS
        integers = [self.env.try_integer(side, self.scope.integers) for side in (left, right)]
        if is_comparison and integers[0] is not None and integers[1] is not None:
            return ir.Literal(ir.BOOL, int(compare(operator, integers[0], integers[1])))
        # Two integers, as in `N == 8`, are compared as 64-bit numbers.
        first, second = self._pair(node, left, right, ir.bits(64) if is_comparison else expected)
        if first.type == ir.BOOL and operator not in _LOGICAL:
            raise fail("type", f"'{operator}' does not work on bool", self.span(node))
        if isinstance(first.type, ir.Struct):
            raise fail("type", f"'{operator}' does not work on a struct", self.span(node))
        return ir.Binary(ir.BOOL if is_comparison else first.type, operator, first, second)

    def _vector(self, e: ir.Expr, node: Node, operator: str) -> None:
        if width_of(e.type) is None:
            raise fail("type", f"'{operator}' needs a vector, found {e.type}", self.span(node))

    def _pair(self, node: Node, left: Node, right: Node, expected: Expectation) -> tuple[ir.Expr, ir.Expr]:
        """Both sides of an operator, brought to one type; a literal takes the type of the other side."""
        if not self.needs_context(left):
            first = self.infer(left, expected)
            second = (
                self.infer(right, first.type) if self.needs_context(right) else self.infer(right, expected)
            )
        elif not self.needs_context(right):
            second = self.infer(right, expected)
            first = self.infer(left, second.type)
        else:
            first, second = self.infer(left, expected), self.infer(right, expected)
        common = _common(first.type, second.type)
        if common is None:
            raise fail(
                "type",
                f"the two sides differ: {first.type} and {second.type}",
                self.span(node),
                notes=[
                    (self.span(left), f"this is {first.type}"),
                    (self.span(right), f"this is {second.type}"),
                ],
                hint=conversion_hint(second.type, first.type),
            )
        return _as(first, common), _as(second, common)

    def _concat(self, node: Node, _expected: Expectation) -> ir.Expr:
        parts: list[ir.Expr] = []
        for child in node.children:
            part = self.infer(child)
            if part.type == ir.BOOL:
                part = ir.Extend(ir.bits(1), part, False)
            self._vector(part, child, "++")
            parts.extend(part.parts if isinstance(part, ir.Concat) else [part])
        width = sum(width_of(p.type) or 0 for p in parts)
        return ir.Concat(ir.bits(width), tuple(parts))

    def _cast(self, node: Node, _expected: Expectation) -> ir.Expr:
        target = self.env.type(self.item, node.children[1], self.scope.integers)
        value = self.infer(node.children[0], target)
        if isinstance(target, (ir.Bool, ir.Struct)) or width_of(value.type) != target.width:
            raise fail(
                "type",
                f"cannot convert {value.type} to {target}",
                self.span(node),
                hint="`as` keeps the width; use zero_extend, sign_extend or truncate to change it, bit(b) for a bool",
            )
        return ir.Cast(target, value) if value.type != target else value

    def _conditional(self, node: Node, expected: Expectation) -> ir.Expr:
        condition = self.condition(node.children[0])
        with self.scope.conditional():
            then, otherwise = self._pair(node, node.children[1], node.children[2], expected)
        return ir.Conditional(then.type, condition, then, otherwise)

    def _for_all(self, node: Node, _expected: Expectation) -> ir.Expr:
        name, _, bounds, body = node.children
        first, last = self._pair(bounds, bounds.children[0], bounds.children[2], None)
        self._vector(first, bounds, "for all")
        if 1 << (width_of(first.type) or 0) > ir.MOST_VALUES:
            message = f"{first.type} has more than {ir.MOST_VALUES} values"
            raise fail("loop", message, self.span(bounds), hint="the bounds need a narrower type")
        with self.scope.block(), self.scope.conditional():
            self.declare(str(name), first.type, False, name)
            return ir.ForAll(ir.BOOL, str(name), first, last, self.condition(body))

    def _within(self, node: Node, _expected: Expectation) -> ir.Expr:
        value = self.infer(node.children[0])
        bounds = node.children[1]
        if bounds.data == "range":
            low, high = self.check(bounds.children[0], value.type), self.check(bounds.children[2], value.type)
            return fold(
                ir.Binary(
                    ir.BOOL,
                    "and",
                    fold(ir.Binary(ir.BOOL, ">=", value, low)),
                    fold(ir.Binary(ir.BOOL, "<=", value, high)),
                )
            )
        result: ir.Expr = ir.Literal(ir.BOOL, 0)
        for child in bounds.children:
            result = fold(
                ir.Binary(
                    ir.BOOL,
                    "or",
                    result,
                    fold(ir.Binary(ir.BOOL, "==", value, self.check(child, value.type))),
                )
            )
        return result


def _common(left: ir.Type, right: ir.Type) -> ir.Type | None:
    """The type of `left op right`: plain bits join a newtype or bitfield of their width."""
    if left == right:
        return left
    if width_of(left) is None or width_of(left) != width_of(right):
        return None
    if isinstance(right, ir.Bits) and isinstance(left, ir.Newtype | ir.Bitfield):
        return left
    if isinstance(left, ir.Bits) and isinstance(right, ir.Newtype | ir.Bitfield):
        return right
    return None


def _as(e: ir.Expr, type_: ir.Type) -> ir.Expr:
    if e.type == type_ or isinstance(type_, (ir.Bool, ir.Struct)):
        return e
    return fold(ir.Cast(type_, e))
