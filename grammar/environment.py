"""What the items of a specification declare: types, state, functions and the rest, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from grammar import ir
from grammar.diagnostics import Diagnostic
from grammar.parse import Item
from grammar.source import Span
from grammar.tree import Node, Token


class CheckError(Exception):
    """Stops the check of one statement or item; `diagnostic` is None where the cause was reported before."""

    def __init__(self, diagnostic: Diagnostic | None) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


def fail(
    code: str, message: str, span: Span, notes: Iterable[tuple[Span, str]] = (), hint: str = ""
) -> CheckError:
    """A `CheckError` to raise."""
    return CheckError(Diagnostic(code, message, span, tuple(notes), hint))


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """A hint that names the candidate most like `name`, or nothing."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f"did you mean '{close[0]}'?" if close else ""


@dataclass(slots=True)
class StateDeclaration:
    """A state item: its indices and the type of its value."""

    item: Item
    indices: tuple[ir.Parameter, ...]
    type: ir.Type


@dataclass(slots=True)
class Environment:
    """All declarations.  Types are resolved when first asked for, so order does not matter."""

    items: dict[str, Item] = field(default_factory=dict)
    types: dict[str, ir.Type] = field(default_factory=dict)
    members: dict[str, list[ir.Enum]] = field(default_factory=dict)
    state: dict[str, StateDeclaration] = field(default_factory=dict)
    constants: dict[str, ir.Constant] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)

    def named_type(self, name: str, span: Span) -> ir.Type:
        """The type `name`, resolved now if it was not yet."""
        if name in self.types:
            return self.types[name]
        item = self.items.get(name)
        if item is None or item.tree.data not in _TYPE_ITEMS:
            if name in self.suspects:
                raise CheckError(None)
            known = [n for n, i in self.items.items() if i.tree.data in _TYPE_ITEMS]
            raise fail("type", f"unknown type '{name}'", span, hint=suggestion(name, known))
        if name in self.pending:
            raise fail("type", f"the type '{name}' contains itself", span)
        self.pending.add(name)
        try:
            resolved = _TYPE_ITEMS[item.tree.data](self, item)
        finally:
            self.pending.discard(name)
        self.types[name] = resolved
        if isinstance(resolved, ir.Enum):
            for member, _ in resolved.members:
                self.members.setdefault(member, []).append(resolved)
        return resolved

    def type(self, item: Item, node: Node, integers: dict[str, int] | None = None) -> ir.Type:
        """The type a type expression means; `integers` are the width parameters in sight."""
        if node.data == "bool_type":
            return ir.BOOL
        if node.data == "named_type":
            return self.named_type(str(node.children[0]), item.span(node))
        width = self.integer(item, node.children[0], integers or {})
        if not 1 <= width <= 32768:
            raise fail("width", f"a width of {width} bits is not possible", item.span(node))
        return ir.bits(width)

    def integer(self, item: Item, node: Node | Token, integers: dict[str, int]) -> int:
        """The value of an expression that is an integer when the file is checked, or a `CheckError`."""
        value = self.try_integer(node, integers)
        if value is None:
            raise fail(
                "constant",
                "this must be an integer known when the file is checked",
                item.span(node),
                hint="use numbers, constants, width parameters and loop variables",
            )
        return value

    def try_integer(self, node: Node | Token, integers: dict[str, int]) -> int | None:
        """The integer a tree denotes if it is built from numbers, width parameters and loop variables only."""
        if isinstance(node, Token):
            return None
        kind, children = node.data, node.children
        if kind == "number":
            return parse_number(children[0])
        if kind == "name":
            return integers.get(children[0])
        if kind == "unary" and children[0] == "-":
            inner = self.try_integer(children[1], integers)
            return None if inner is None else -inner
        if kind == "binary" and (left := self.try_integer(children[0], integers)) is not None:
            right = self.try_integer(children[2], integers)
            return None if right is None else _arithmetic(children[1], left, right)
        return None


def parse_number(text: str) -> int:
    """The value of a number token."""
    return int(text.replace("_", ""), 0 if text[:2] in ("0x", "0b") else 10)


def _arithmetic(operator: str, left: int, right: int) -> int | None:
    """The value; None where it depends on a width, as quotients and right shifts of negative numbers do."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left // right if right > 0 <= left else None
        case "%":
            return left % right if right > 0 <= left else None
        case "<<":
            return left << right if 0 <= right < 4096 else None
        case ">>":
            return left >> right if 0 <= right < 4096 and left >= 0 else None
    return None


def width_of(type_: ir.Type) -> int | None:
    """The width in bits of a vector type, None for bool and structs."""
    return None if isinstance(type_, (ir.Bool, ir.Struct)) else type_.width


def _vector_width(env: Environment, item: Item, node: Node) -> int:
    width = width_of(env.type(item, node))
    if width is None:
        raise fail("type", "a vector type such as bits(64) is needed here", item.span(node))
    return width


def _newtype(env: Environment, item: Item) -> ir.Type:
    name, type_ = item.tree.children
    return ir.Newtype(str(name), _vector_width(env, item, type_))


def _enum(env: Environment, item: Item) -> ir.Type:
    name, type_, *members = item.tree.children
    width = _vector_width(env, item, type_)
    values: dict[str, int] = {}
    for member in members:
        key, value = str(member.children[0]), parse_number(str(member.children[1]))
        if key in values:
            raise fail("duplicate", f"'{key}' stands twice in the enum", item.span(member))
        if value >> width:
            raise fail("width", f"{value} does not fit in {width} bits", item.span(member.children[1]))
        values[key] = value
    return ir.Enum(str(name), width, tuple(values.items()))


def _bitfield(env: Environment, item: Item) -> ir.Type:
    name, type_, *rows = item.tree.children
    width = _vector_width(env, item, type_)
    members: list[ir.BitfieldMember] = []
    for row in rows:
        high = parse_number(str(row.children[1]))
        low = high if row.children[2] is None else parse_number(str(row.children[2]))
        if not width > high >= low:
            raise fail("width", f"bits {high}..{low} do not lie in {width} bits", item.span(row))
        members.append(ir.BitfieldMember(str(row.children[0]), high, low, item.doc_of(row)))
    return ir.Bitfield(str(name), width, tuple(members))


def _struct(env: Environment, item: Item) -> ir.Type:
    name, *fields = item.tree.children
    return ir.Struct(str(name), struct_fields(env, item, fields))


def struct_fields(env: Environment, item: Item, fields: Iterable[Node]) -> tuple[tuple[str, ir.Type], ...]:
    """The names and types of the fields of a struct or abort."""
    return tuple((str(f.children[0]), env.type(item, f.children[1])) for f in fields)


def _abort_type(env: Environment, item: Item) -> ir.Type:
    name, _guard, *fields = item.tree.children
    return ir.Struct(str(name), struct_fields(env, item, fields))


_TYPE_ITEMS = {
    "newtype": _newtype,
    "enum": _enum,
    "bitfield": _bitfield,
    "struct": _struct,
    "abort": _abort_type,
}
