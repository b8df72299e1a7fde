"""Expressions of the specification as Python expressions.

Vectors become non-negative ints below 2**width, bools become values that are equal to 0 or 1.  Three views of one
expression keep the text short: its `value`; a `raw` form that is only congruent to it modulo 2**width, for
operands of sums whose result is masked anyway; and a `condition`, which only has to be true or false.
"""

from __future__ import annotations

from grammar import ir
from refmodel.generate.bounds import bound, grown, ones, width_of
from refmodel.generate.code import UNARY, Code, call, choice, negation, number, operation
from refmodel.generate.leaves import Leaves
from refmodel.generate.simplify import simplified

_RING = frozenset({"+", "-", "*"})  # a result modulo 2**width depends on the operands modulo 2**width only
_SHIFT_LIMIT = 255  # shifting left by a variable amount up to this stays cheap
_BOOLEAN_OPERATORS = {"and": "and", "or": "or"}
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_INVERSE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_SIGNED_COMPARISONS = {"<s": "<", "<=s": "<=", ">s": ">", ">=s": ">="}


class Expressions(Leaves):
    """Writes expressions in the three views."""

    def value(self, expression: ir.Expr) -> Code:
        """The value, within its width."""
        expression = simplified(expression)
        match expression:
            case ir.Binary(op=op, left=left, right=right) if isinstance(expression.type, ir.Bool):
                return self._truth(op, left, right)
            case ir.Binary(op=op, left=left, right=right):
                wraps = op in _RING or (op == "<<" and bound(right) <= _SHIFT_LIMIT)
                if wraps and not self._stays_small(expression):
                    return self.masked(self.raw(expression), width_of(expression.type))
                return self._arithmetic(op, left, right)
            case ir.Unary(op="not", operand=operand):
                return self._inverse(operand)
            case ir.Unary(op="~", operand=operand):
                return operation("^", self.value(operand), self.mask(width_of(expression.type)))
            case ir.Unary(operand=operand):
                return self.masked(self.raw(expression), width_of(expression.type))
            case ir.Extend(type=type_, base=base, signed=True) if width_of(base.type) < type_.width:
                return self.masked(self.raw(expression), type_.width)
            case ir.Conditional(condition=condition, then=then, otherwise=otherwise):
                return choice(self.condition(condition), self.value(then), self.value(otherwise))
        return self.leaf(expression)

    def raw(self, expression: ir.Expr) -> Code:
        """A value that is right modulo 2**width; it may be too large or negative."""
        expression = simplified(expression)
        match expression:
            case ir.Binary(op=op, left=left, right=right) if op in _RING:
                return operation(op, self.raw(left), self.raw(right))
            case ir.Binary(op="<<", left=left, right=right) if bound(right) <= _SHIFT_LIMIT:
                return operation("<<", self.raw(left), self.amount(right))
            case ir.Unary(op="-" | "~" as op, operand=operand):
                return Code(f"{op}{self.raw(operand).at(UNARY)}", UNARY)
            case ir.Extend(base=base, signed=True):
                return self._signed(base)
            case ir.Cast(base=base) if width_of(base.type):
                return self.raw(base)
        return self.value(expression)

    def condition(self, expression: ir.Expr) -> Code:
        """A text that is true exactly if the expression is."""
        expression = simplified(expression)
        match expression:
            case ir.Bit(base=base, index=ir.Literal(value=index)):
                return operation("&", self.value(base), self.bits(base.type, index, index))
            case ir.Bit(base=base, index=index):
                return operation("&", operation(">>", self.value(base), self.value(index)), Code("1"))
            case ir.Binary(op=op, left=left, right=right) if op in _BOOLEAN_OPERATORS:
                return operation(_BOOLEAN_OPERATORS[op], self.condition(left), self.condition(right))
            case ir.Unary(op="not", operand=ir.Unary(op="not", operand=operand)):
                return self.condition(operand)
            case ir.Unary(op="not", operand=operand):
                return self._inverse(operand)
            case ir.Binary(op="!=", left=left, right=ir.Literal(value=0)) if not isinstance(
                left.type, ir.Bool
            ):
                return self.value(left)
        return self.value(expression)

    # --- operators --------------------------------------------------------------------------------

    def _stays_small(self, expression: ir.Binary) -> bool:
        """Whether the operation cannot leave its width, so that no mask is needed."""
        limit = ones(width_of(expression.type))
        return (
            expression.op != "-" and grown(expression.op, expression.left, expression.right, limit) <= limit
        )

    def _arithmetic(self, op: str, left: ir.Expr, right: ir.Expr) -> Code:
        width = width_of(left.type)
        match op:
            case "&" if self._is_raw(right) and not self._is_raw(left):
                return operation("&", self.value(left), self.raw(right))
            case "&" if self._is_raw(left):
                return operation("&", self.raw(left), self.value(right))
            case "/" | "%":
                function = "divide" if op == "/" else "remainder"
                return call(function, [self.value(left), self.value(right), self.mask(width)])
            case "<<" if bound(right) > _SHIFT_LIMIT:
                return call("shift_left", [self.value(left), self.value(right), number(width)])
            case ">>s":
                return self.masked(operation(">>", self._signed(left), self.amount(right)), width)
            case ">>" | "<<":
                return operation(op, self.value(left), self.amount(right))
        return operation(op, self.value(left), self.value(right))

    @staticmethod
    def _is_raw(expression: ir.Expr) -> bool:
        return isinstance(expression, ir.Unary) or (
            isinstance(expression, ir.Binary) and expression.op in _RING
        )

    def _truth(self, op: str, left: ir.Expr, right: ir.Expr) -> Code:
        if op in _BOOLEAN_OPERATORS or op in _COMPARISONS:
            return operation(op, self.value(left), self.value(right))
        if op in _SIGNED_COMPARISONS:
            biased = [self._biased(side) for side in (left, right)]
            return operation(_SIGNED_COMPARISONS[op], *biased)
        return operation(op, self.value(left), self.value(right))  # & | ^ on bool

    def _inverse(self, operand: ir.Expr) -> Code:
        """The negation of a condition, as a Python bool."""
        if isinstance(operand, ir.Binary) and operand.op in _INVERSE:
            return operation(_INVERSE[operand.op], self.value(operand.left), self.value(operand.right))
        return negation(self.condition(operand))

    def _biased(self, expression: ir.Expr) -> Code:
        """The value with its sign bit inverted: unsigned order of these is signed order of the values."""
        width = width_of(expression.type)
        if isinstance(expression, ir.Literal):
            return number(expression.value ^ 1 << width - 1)
        return operation("^", self.value(expression), number(1 << width - 1))

    def _signed(self, expression: ir.Expr) -> Code:
        """The value as a signed int."""
        width = width_of(expression.type)
        if isinstance(expression, ir.Literal):
            value = expression.value
            return number(value) if value < 1 << width - 1 else Code(str(value - (1 << width)), UNARY)
        if isinstance(expression.type, ir.Bool):
            return Code(f"-{self.value(expression).at(UNARY)}", UNARY)
        sign = number(1 << width - 1)
        return operation("-", operation("^", self.value(expression), sign), sign)
