"""Makes trees of rows of operators and operands, by precedence climbing."""

from __future__ import annotations

from typing import Any

from grammar.tree import Node, Token

# From loose to tight, as in docs/language.md.  Comparisons do not chain.
_LEVELS = (
    ("or",),
    ("and",),
    ("not",),
    ("==", "!=", "<", "<=", ">", ">=", "<s", "<=s", ">s", ">=s", "in"),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>", ">>s"),
    ("++",),
    ("+", "-"),
    ("*", "/", "%"),
)
_PRECEDENCE = {operator: level for level, operators in enumerate(_LEVELS) for operator in operators}
_NOT = _PRECEDENCE["not"]
_COMPARISON = _PRECEDENCE["=="]
_TIGHTEST = len(_LEVELS)


class PrecedenceError(Exception):
    """An operator stands where it cannot; `token` is the operator."""

    def __init__(self, token: Token, message: str) -> None:
        super().__init__(message)
        self.token = token


def chain_tree(_data: str, elements: list[Any], _start: int, _end: int) -> Node:
    """The tree of `unary`, `binary`, `concat`, `cast` and `within` nodes that a `chain` stands for.

    Raises `PrecedenceError`.
    """
    return _Chain(elements).tree()


class _Chain:
    """Reads the elements of one chain from left to right."""

    def __init__(self, elements: list[Node | Token]) -> None:
        self.elements = elements
        self.position = 0

    def tree(self) -> Node:
        return self._operators(0)

    def _operators(self, loosest: int) -> Node:
        """The longest tree from here whose operators bind at least as tightly as `loosest`."""
        left = self._operand(loosest)
        compared = False
        while self.position < len(self.elements):
            operator = self.elements[self.position]
            assert isinstance(operator, Token)
            if operator == "as":
                raise PrecedenceError(operator, "`as` binds tighter than `in`; use parentheses")
            level = _PRECEDENCE[operator]
            if level < loosest:
                break
            if level == _COMPARISON:
                if compared:
                    raise PrecedenceError(operator, "comparisons cannot be chained; join them with `and`")
                compared = True
            self.position += 1
            left = self._infix(left, operator, level)
        return left

    def _infix(self, left: Node, operator: Token, level: int) -> Node:
        if operator == "in":
            bounds = self.elements[self.position]
            self.position += 1
            return _node("within", left, [left, bounds], bounds)
        right = self._operators(level + 1)
        if operator == "++":
            return _node("concat", left, [left, right], right)
        return _node("binary", left, [left, operator, right], right)

    def _operand(self, loosest: int) -> Node:
        element = self.elements[self.position]
        self.position += 1
        if isinstance(element, Node):
            return self._casts(element)
        if element != "not":
            operand = self._operators(_TIGHTEST)
        elif loosest > _NOT:
            raise PrecedenceError(element, "`not` binds looser than what stands before it; use parentheses")
        else:
            operand = self._operators(_NOT)
        return _node("unary", element, [element, operand], operand)

    def _casts(self, operand: Node) -> Node:
        """The operand with the `as TYPE` behind it."""
        while self.elements[self.position : self.position + 1] == ["as"]:
            type_ = self.elements[self.position + 1]
            self.position += 2
            operand = _node("cast", operand, [operand, type_], type_)
        return operand


def _node(data: str, first: Node | Token, children: list[Any], last: Node | Token) -> Node:
    """A node from the beginning of `first` to the end of `last`."""
    return Node(data, children, first.start, last.end)
