"""What checking an expression needs: the names in sight, the item it stands in, and the type it must have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from grammar import ir
from grammar.environment import Environment, fail, width_of
from grammar.fold import fold
from grammar.parse import Item
from grammar.scope import LocalName, Scope
from grammar.source import Span
from grammar.tree import Node, Token

Expectation = ir.Type | None
_SHOWN_BITS = 256  # of integers in messages


class Functions(Protocol):
    """What a body needs to know of the other items."""

    def call(self, checker: Context, node: Node) -> ir.Call:
        """A typed call."""
        ...

    def output(self, checker: Context, node: Node) -> ir.Output | None:
        """The call as an output, None if its name is none."""
        ...

    def transfer(self, checker: Context, name: str, span: Span) -> ir.Call:
        """A call of a transfer."""
        ...

    def undefined_site(self, item: Item) -> str:
        """A name that no other `undefined` of the program has."""
        ...

    def rule_groups(self) -> set[str]:
        """The names of the rule groups."""
        ...

    def aborts(self) -> set[str]:
        """The names of the aborts."""
        ...

    def exit_abort(self, span: Span) -> tuple[ir.Struct, ir.Expr]:
        """The abort that `exit` raises, and its guard."""
        ...

    def first_keys(self, name: str, count: int, span: Span) -> tuple[ir.Expr, ...]:
        """The first keys under which a cached function remembers its results."""
        ...

    def is_cached(self, name: str) -> bool:
        """Whether a function is declared `cached`."""
        ...


class Context:
    """Checks trees of one item under one scope; subclasses say how each kind of tree is checked."""

    def __init__(self, env: Environment, functions: Functions, item: Item, scope: Scope) -> None:
        self.env = env
        self.functions = functions
        self.item = item
        self.scope = scope

    def check(self, node: Node, expected: ir.Type) -> ir.Expr:
        """The expression, which must have the type `expected`."""
        return self.coerce(self._check(node, expected), expected, node)

    def infer(self, node: Node, expected: Expectation = None) -> ir.Expr:
        """The expression with the type it has by itself; `expected` only helps literals."""
        return self._check(node, expected)

    def condition(self, node: Node) -> ir.Expr:
        """The expression, which must be a bool."""
        return self.check(node, ir.BOOL)

    def span(self, node: Node | Token) -> Span:
        """Where a tree or token stands."""
        return self.item.span(node)

    def width(self, node: Node) -> int:
        """A width known when the file is checked."""
        value = self.env.integer(self.item, node, self.scope.integers)
        if not 1 <= value <= 1 << 15:
            raise fail("width", f"a width of {value} bits is not possible", self.span(node))
        return value

    def coerce(self, e: ir.Expr, expected: ir.Type, node: Node) -> ir.Expr:
        """`e` as `expected`: the same type, or a bitfield and plain bits of one width."""
        if e.type == expected:
            return e
        plain = ir.Bitfield | ir.Bits
        if isinstance(e.type, plain) and isinstance(expected, plain) and e.type.width == expected.width:
            return fold(ir.Cast(expected, e))
        message = f"expected {expected}, found {e.type}"
        raise fail("type", message, self.span(node), hint=conversion_hint(e.type, expected))

    def declare(self, name: str, type_: ir.Type, mutable: bool, place: Node | Token) -> None:
        """Puts a local in sight; an error if its name is taken."""
        if name in self.scope.locals or name in self.scope.operands:
            old = self.scope.locals.get(name) or self.scope.operands[name]
            raise fail(
                "duplicate", f"'{name}' is already declared", self.span(place), notes=[(old.span, "here")]
            )
        self.scope.locals[name] = LocalName(type_, mutable, self.span(place))

    # --- for subclasses

    def rule(self, kind: str) -> Callable[[Node, Expectation], ir.Expr]:
        """How a kind of tree is checked."""
        raise NotImplementedError(kind)

    def _check(self, node: Node | Token, expected: Expectation) -> ir.Expr:
        assert not isinstance(node, Token)
        value = self.env.try_integer(node, self.scope.integers)
        if value is not None:
            return self._integer(node, value, expected)
        return fold(self.rule(node.data)(node, expected))

    def _integer(self, node: Node, value: int, expected: Expectation) -> ir.Expr:
        width = None if expected is None else width_of(expected)
        if expected is None:
            raise fail(
                "width",
                "the width of this integer is not known here",
                self.span(node),
                hint="name it with a typed const, or write zero_extend(…, N) around a typed value",
            )
        if width is None:
            raise fail(
                "type",
                f"expected {expected}, found an integer",
                self.span(node),
                hint="write true or false" if expected == ir.BOOL else "",
            )
        if not -(1 << (width - 1)) <= value < 1 << width:
            shown = value if value.bit_length() <= _SHOWN_BITS else "this integer"
            raise fail("width", f"{shown} does not fit in {expected} ({width} bits)", self.span(node))
        return ir.Literal(expected, value & ((1 << width) - 1))

    def needs_context(self, node: Node | Token) -> bool:
        """Whether the type of the expression comes from where it stands."""
        if isinstance(node, Token):
            return False
        if self.env.try_integer(node, self.scope.integers) is not None:
            return True
        match node.data:
            case "name":
                name = str(node.children[0])
                return name in self.env.members and not self.is_variable(name)
            case "conditional":
                return all(self.needs_context(c) for c in node.children[1:])
            case "unary":
                return str(node.children[0]) in "~-" and self.needs_context(node.children[1])
            case "binary":
                return str(node.children[1]) in "+-*|&^" and all(
                    self.needs_context(node.children[i]) for i in (0, 2)
                )
            case "call" if str(node.children[0]) == "undefined":
                return all(self.needs_context(c) for c in node.children[1:])
        return False

    def is_variable(self, name: str) -> bool:
        """Whether a name is something other than an enum member here."""
        s = self.scope
        return (
            name in s.locals
            or name in s.operands
            or name in s.literals
            or name in self.env.state
            or name in self.env.constants
        )

    def no_effects_here(self, node: Node, what: str) -> None:
        """An error if the expression might not be evaluated."""
        if self.scope.guarded:
            raise fail(
                "effect",
                f"{what} may raise, exit or write, and here it might not be evaluated",
                self.span(node),
                hint="name its result with `let` before",
            )


def conversion_hint(found: ir.Type, expected: ir.Type) -> str:
    """How to bring a value of one type to another."""
    have, want = width_of(found), width_of(expected)
    if found == ir.BOOL and want is not None:
        return f"write zero_extend(…, {want}) or bit(…)"
    if have is None or want is None:
        return "compare with 0 to get a bool" if expected == ir.BOOL and have is not None else ""
    if have == want:
        return f"convert with `as {expected}`"
    return (
        f"use truncate(…, {want})" if have > want else f"use zero_extend(…, {want}) or sign_extend(…, {want})"
    )
