"""Type-checks expressions: tree to typed IR, literals taking the type their context expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lark import Token

from grammar import ir
from grammar.environment import CheckError, Environment, fail, parse_number, width_of
from grammar.fold import compare, fold
from grammar.parse import Item, Node
from grammar.scope import Scope
from grammar.source import Span

Expectation = ir.Type | None
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "<s", "<=s", ">s", ">=s"})
_LOGICAL = frozenset({"&", "|", "^", "==", "!="})
OPERAND_ATTRIBUTES: dict[str, ir.Type] = {
    "index": ir.Bits(4),
    "is_memory": ir.BOOL,
    "address": ir.Bits(64),
    "segment": ir.Bits(3),
}


class Functions(Protocol):
    """What a body needs to know of the other items."""

    def call(self, checker: ExpressionChecker, node: Node) -> ir.Call: ...

    def output(self, checker: ExpressionChecker, node: Node) -> ir.Output | None: ...

    def transfer(self, checker: ExpressionChecker, name: str, span: Span) -> ir.Call: ...

    def undefined_site(self) -> int: ...

    def rule_groups(self) -> set[str]: ...

    def aborts(self) -> set[str]: ...

    def exit_abort(self, span: Span) -> tuple[ir.Struct, ir.Expr]: ...

    def is_cached(self, name: str) -> bool: ...


class ExpressionChecker:
    """Checks the expressions of one item under one scope."""

    def __init__(self, env: Environment, functions: Functions, item: Item, scope: Scope) -> None:
        self.env = env
        self.functions = functions
        self.item = item
        self.scope = scope
        self._checks: dict[str, Callable[[Node, Expectation], ir.Expr]] = {
            "number": self._number,
            "truth": lambda node, _: ir.Literal(ir.BOOL, int(node.children[0] == "true")),
            "name": self._name,
            "unary": self._unary,
            "binary": lambda node, e: self._binary(
                node, str(node.children[1]), node.children[0], node.children[2], e
            ),
            "bit_or": lambda node, e: self._binary(node, "|", node.children[0], node.children[1], e),
            "bit_xor": lambda node, e: self._binary(node, "^", node.children[0], node.children[1], e),
            "bit_and": lambda node, e: self._binary(node, "&", node.children[0], node.children[1], e),
            "concat": self._concat,
            "cast": self._cast,
            "conditional": self._conditional,
            "within": self._within,
            "subscript": self._subscript,
            "slice": self._slice,
            "attribute_of": self._attribute,
            "updated": self._updated,
            "make": self._make,
            "call": self._call,
        }

    # --- entry points

    def check(self, node: Node, expected: ir.Type) -> ir.Expr:
        """The expression, which must have the type `expected`."""
        return self.coerce(self._check(node, expected), expected, self.span(node))

    def infer(self, node: Node, expected: Expectation = None) -> ir.Expr:
        """The expression with the type it has by itself; `expected` only helps literals."""
        return self._check(node, expected)

    def condition(self, node: Node) -> ir.Expr:
        return self.check(node, ir.BOOL)

    def span(self, node: Node | Token) -> Span:
        return self.item.span(node)

    def width(self, node: Node) -> int:
        """A width known when the file is checked."""
        value = self.env.integer(self.item, node, self.scope.integers)
        if not 1 <= value <= 1 << 15:
            raise fail("width", f"a width of {value} bits is not possible", self.span(node))
        return value

    def coerce(self, e: ir.Expr, expected: ir.Type, span: Span) -> ir.Expr:
        """`e` as `expected`: the same type, or a bitfield and plain bits of one width."""
        if e.type == expected:
            return e
        if isinstance(e.type, ir.Bitfield | ir.Bits) and isinstance(expected, ir.Bitfield | ir.Bits):
            if e.type.width == expected.width:
                return fold(ir.Cast(expected, e))
        raise fail(
            "type", f"expected {expected}, found {e.type}", span, hint=_conversion_hint(e.type, expected)
        )

    # --- helpers

    def _check(self, node: Node | Token, expected: Expectation) -> ir.Expr:
        assert not isinstance(node, Token)
        value = self.env.try_integer(node, self.scope.integers)
        if value is not None:
            return self._integer(node, value, expected)
        return fold(self._checks[node.data](node, expected))

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
            raise fail("width", f"{value} does not fit in {expected} ({width} bits)", self.span(node))
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
                return name in self.env.members and not self._is_variable(name)
            case "conditional":
                return all(self.needs_context(c) for c in node.children[1:])
            case "unary":
                return str(node.children[0]) in "~-" and self.needs_context(node.children[1])
            case "binary":
                return str(node.children[1]) in "+-*" and all(
                    self.needs_context(node.children[i]) for i in (0, 2)
                )
            case "bit_or" | "bit_and" | "bit_xor":
                return all(self.needs_context(c) for c in node.children)
            case "call" if str(node.children[0]) == "undefined":
                return all(self.needs_context(c) for c in node.children[1:])
        return False

    def _is_variable(self, name: str) -> bool:
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

    # --- atoms

    def _number(self, node: Node, expected: Expectation) -> ir.Expr:
        return self._integer(node, parse_number(str(node.children[0])), expected)

    def _name(self, node: Node, expected: Expectation) -> ir.Expr:
        name = str(node.children[0])
        scope = self.scope
        if name in scope.locals:
            local = scope.locals[name]
            if local.type is None:
                raise CheckError(None)
            return ir.Local(local.type, name)
        if isinstance(expected, ir.Enum) and name in dict(expected.members):
            return ir.Literal(expected, dict(expected.members)[name])
        if name in scope.literals:
            return scope.literals[name]
        if name in scope.operands:
            return self._operand(node, name)
        if name == "instruction_length" and scope.in_instruction:
            return ir.InstructionLength(ir.Bits(64))
        if name in self.env.constants:
            constant = self.env.constants[name]
            return ir.Literal(constant.type, constant.value)
        if name in self.env.state:
            declaration = self.env.state[name]
            if declaration.indices:
                raise fail("index", f"'{name}' needs an index: {name}[…]", self.span(node))
            return ir.Read(declaration.type, name, ())
        return self._enum_member(node, name)

    def _enum_member(self, node: Node, name: str) -> ir.Expr:
        enums = self.env.members.get(name, [])
        if len(enums) == 1:
            return ir.Literal(enums[0], dict(enums[0].members)[name])
        if enums:
            names = ", ".join(f"{e.name}.{name}" for e in enums)
            raise fail("ambiguous", f"'{name}' could be {names}", self.span(node), hint="write one of them")
        if name in self.env.suspects:
            raise CheckError(None)
        known = [
            *self.scope.locals,
            *self.scope.operands,
            *self.env.state,
            *self.env.constants,
            *self.env.members,
        ]
        raise fail("name", f"unknown name '{name}'", self.span(node), hint=self.env.suggestion(name, known))

    def _operand(self, node: Node, name: str) -> ir.Expr:
        operand = self.scope.operands[name]
        if operand.width is None:
            raise fail(
                "operand",
                f"the operand '{name}' has no value, only {', '.join(OPERAND_ATTRIBUTES)}",
                self.span(node),
                notes=[(operand.span, "its encoding gives it no width")],
            )
        self.no_effects_here(node, f"reading the operand '{name}'")
        operand.reads = True
        self.scope.raises = True
        return ir.OperandRead(ir.Bits(operand.width), name)

    # --- operators

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
            amount = self.infer(right, ir.Bits(16)) if self.needs_context(right) else self.infer(right)
            self._vector(amount, right, operator)
            return ir.Binary(value.type, operator, value, amount)
        is_comparison = operator in _COMPARISONS
        integers = [self.env.try_integer(side, self.scope.integers) for side in (left, right)]
        if is_comparison and integers[0] is not None and integers[1] is not None:
            return ir.Literal(ir.BOOL, int(compare(operator, integers[0], integers[1])))
        # Two integers, as in `N == 8`, are compared as 64-bit numbers.
        first, second = self._pair(node, left, right, ir.Bits(64) if is_comparison else expected)
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
                hint=_conversion_hint(second.type, first.type),
            )
        return _as(first, common), _as(second, common)

    def _concat(self, node: Node, _expected: Expectation) -> ir.Expr:
        parts: list[ir.Expr] = []
        for child in node.children:
            part = self.infer(child)
            if part.type == ir.BOOL:
                part = ir.Extend(ir.Bits(1), part, False)
            self._vector(part, child, "++")
            parts.extend(part.parts if isinstance(part, ir.Concat) else [part])
        width = sum(width_of(p.type) or 0 for p in parts)
        return ir.Concat(ir.Bits(width), tuple(parts))

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

    # --- parts

    def _subscript(self, node: Node, _expected: Expectation) -> ir.Expr:
        base, *arguments = node.children
        name = str(base.children[0]) if base.data == "name" else ""
        if name not in self.scope.locals and name not in self.scope.operands:
            if name in self.env.state and self.env.state[name].indices:
                return ir.Read(self.env.state[name].type, name, self.indices(node, name, arguments))
            if name in self.env.items and self.env.items[name].tree.data == "memory":
                address, width = self.memory_place(node, name, arguments)
                return ir.ReadMemory(ir.Bits(width), name, address)
        value = self.infer(base)
        bits = width_of(value.type)
        if bits is None or len(arguments) != 1:
            raise fail("index", f"{value.type} cannot be indexed like this", self.span(node))
        index = (
            self.infer(arguments[0], ir.Bits(16))
            if self.needs_context(arguments[0])
            else self.infer(arguments[0])
        )
        if isinstance(index, ir.Literal) and index.value >= bits:
            raise fail(
                "index",
                f"bit {index.value} of {value.type}: there are bits 0 to {bits - 1}",
                self.span(node),
            )
        return ir.Bit(ir.BOOL, value, index)

    def indices(self, node: Node, name: str, arguments: list[Node]) -> tuple[ir.Expr, ...]:
        """The checked indices of a state variable."""
        wanted = self.env.state[name].indices
        if len(wanted) != len(arguments):
            raise fail(
                "index", f"'{name}' takes {len(wanted)} index(es), not {len(arguments)}", self.span(node)
            )
        return tuple(self.check(a, w.type) for a, w in zip(arguments, wanted, strict=True))

    def memory_place(self, node: Node, name: str, arguments: list[Node]) -> tuple[ir.Expr, int]:
        """The address and width in `NAME[address, N]`."""
        if len(arguments) != 2:
            raise fail("index", f"memory is read as {name}[address, width]", self.span(node))
        item = self.env.items[name]
        address = self.check(arguments[0], self.env.type(item, item.tree.children[1]))
        width = self.width(arguments[1])
        if width % 8:
            raise fail(
                "width",
                f"memory is read in bytes, and {width} bits are no whole number of them",
                self.span(arguments[1]),
            )
        return address, width

    def _slice(self, node: Node, _expected: Expectation) -> ir.Expr:
        value = self.infer(node.children[0])
        high, low = self.slice_bounds(node, value.type)
        return ir.Slice(ir.Bits(high - low + 1), value, high, low)

    def slice_bounds(self, node: Node, type_: ir.Type) -> tuple[int, int]:
        high = self.env.integer(self.item, node.children[1], self.scope.integers)
        low = self.env.integer(self.item, node.children[3], self.scope.integers)
        width = width_of(type_)
        if width is None or not width > high >= low >= 0:
            raise fail("index", f"bits {high}..{low} of {type_} do not exist", self.span(node))
        return high, low

    def _attribute(self, node: Node, _expected: Expectation) -> ir.Expr:
        base, name = node.children[0], str(node.children[1])
        if base.data == "name":
            owner = str(base.children[0])
            if owner in self.scope.operands and name in OPERAND_ATTRIBUTES:
                return ir.OperandAttribute(OPERAND_ATTRIBUTES[name], owner, name)
            enum = self.env.types.get(owner)
            if isinstance(enum, ir.Enum) and not self._is_variable(owner):
                if name in dict(enum.members):
                    return ir.Literal(enum, dict(enum.members)[name])
                raise fail(
                    "name",
                    f"{owner} has no member '{name}'",
                    self.span(node),
                    hint=self.env.suggestion(name, dict(enum.members)),
                )
        value = self.infer(base)
        if isinstance(value.type, ir.Bitfield) and (member := value.type.member(name)):
            if member.high == member.low:
                return ir.Bit(ir.BOOL, value, ir.Literal(ir.Bits(16), member.low))
            return ir.Slice(ir.Bits(member.high - member.low + 1), value, member.high, member.low)
        if isinstance(value.type, ir.Struct) and name in dict(value.type.fields):
            return ir.FieldOf(dict(value.type.fields)[name], value, name)
        raise fail(
            "field",
            f"{value.type} has no field '{name}'",
            self.span(node),
            hint=self._field_hint(value.type, name),
        )

    def _field_hint(self, type_: ir.Type, name: str) -> str:
        if isinstance(type_, ir.Bitfield):
            return self.env.suggestion(name, (m.name for m in type_.members))
        return self.env.suggestion(name, dict(type_.fields)) if isinstance(type_, ir.Struct) else ""

    def _updated(self, node: Node, expected: Expectation) -> ir.Expr:
        base = self.infer(node.children[0], expected)
        changes = self._assignments(node.children[1])
        if isinstance(base.type, ir.Struct):
            return ir.UpdateStruct(base.type, base, tuple(self._struct_values(base.type, changes).items()))
        if isinstance(base.type, ir.Bitfield):
            return ir.UpdateBits(base.type, base, self._bit_values(base.type, changes))
        raise fail("type", f"{base.type} has no fields to change", self.span(node))

    def _make(self, node: Node, _expected: Expectation) -> ir.Expr:
        type_ = self.env.named_type(str(node.children[0]), self.span(node))
        changes = self._assignments(node.children[1])
        return self.make(type_, changes, self.span(node))

    def make(self, type_: ir.Type, changes: dict[str, Node], span: Span) -> ir.Expr:
        """A struct or bitfield built from some of its fields; the others are zero."""
        if isinstance(type_, ir.Bitfield):
            return ir.UpdateBits(type_, ir.Literal(type_, 0), self._bit_values(type_, changes))
        if not isinstance(type_, ir.Struct):
            raise fail("type", f"{type_} has no fields", span)
        values = self._struct_values(type_, changes)
        return ir.MakeStruct(type_, tuple(values.get(name) or zero(t) for name, t in type_.fields))

    def _assignments(self, node: Node | None) -> dict[str, Node]:
        changes: dict[str, Node] = {}
        for assignment in node.children if node is not None else ():
            name = str(assignment.children[0])
            if name in changes:
                raise fail("duplicate", f"the field '{name}' stands twice", self.span(assignment))
            changes[name] = assignment.children[1]
        return changes

    def _struct_values(self, type_: ir.Struct, changes: dict[str, Node]) -> dict[str, ir.Expr]:
        fields = dict(type_.fields)
        for name, node in changes.items():
            if name not in fields:
                raise fail(
                    "field",
                    f"{type_} has no field '{name}'",
                    self.span(node),
                    hint=self._field_hint(type_, name),
                )
        return {name: self.check(node, fields[name]) for name, node in changes.items()}

    def _bit_values(
        self, type_: ir.Bitfield, changes: dict[str, Node]
    ) -> tuple[tuple[int, int, ir.Expr], ...]:
        result = []
        for name, node in changes.items():
            member = type_.member(name)
            if member is None:
                raise fail(
                    "field",
                    f"{type_} has no field '{name}'",
                    self.span(node),
                    hint=self._field_hint(type_, name),
                )
            width = member.high - member.low + 1
            result.append(
                (member.high, member.low, self.check(node, ir.BOOL if width == 1 else ir.Bits(width)))
            )
        return tuple(result)

    # --- calls

    def _call(self, node: Node, expected: Expectation) -> ir.Expr:
        name, arguments = str(node.children[0]), [c for c in node.children[1:] if c is not None]
        match name, arguments:
            case "zero_extend" | "sign_extend", [value, width]:
                return self._extend(value, self.width(width), name == "sign_extend")
            case "truncate", [value, width]:
                return self._truncate(node, value, self.width(width))
            case "bit", [value]:
                return ir.Extend(ir.Bits(1), self.condition(value), False)
            case "undefined", [value]:
                inner = self.infer(value, expected)
                return ir.Undefined(inner.type, inner, self.functions.undefined_site())
            case "holds", [group] if group.data == "name":
                return self._holds(group)
        call = self.functions.call(self, node)
        if call.type == ir.NOTHING:
            raise fail("type", f"'{name}' returns nothing", self.span(node))
        return call

    def _extend(self, node: Node, width: int, signed: bool) -> ir.Expr:
        value = self.infer(node, ir.Bits(width)) if self.needs_context(node) else self.infer(node)
        have = 1 if value.type == ir.BOOL else width_of(value.type)
        if have is None or have > width:
            raise fail(
                "width",
                f"{value.type} cannot be extended to {width} bits",
                self.span(node),
                hint="use truncate to narrow",
            )
        if have == width and value.type != ir.BOOL:
            return self._plain(value)
        return ir.Extend(ir.Bits(width), value, signed)

    def _plain(self, value: ir.Expr) -> ir.Expr:
        plain = ir.Bits(width_of(value.type) or 1)
        return value if value.type == plain else fold(ir.Cast(plain, value))

    def _truncate(self, node: Node, inner: Node, width: int) -> ir.Expr:
        value = self.infer(inner)
        have = width_of(value.type)
        if have is None or have < width:
            raise fail("width", f"{value.type} cannot be truncated to {width} bits", self.span(node))
        return self._plain(value) if have == width else ir.Slice(ir.Bits(width), value, width - 1, 0)

    def _holds(self, node: Node) -> ir.Expr:
        name = str(node.children[0])
        if name not in self.functions.rule_groups():
            raise fail(
                "name",
                f"there are no rules '{name}'",
                self.span(node),
                hint=self.env.suggestion(name, self.functions.rule_groups()),
            )
        return ir.Holds(ir.BOOL, name)


def zero(type_: ir.Type) -> ir.Expr:
    """The zero of a type: false, 0, or a struct of zeros."""
    if isinstance(type_, ir.Struct):
        return ir.MakeStruct(type_, tuple(zero(t) for _, t in type_.fields))
    return ir.Literal(type_, 0)


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


def _conversion_hint(found: ir.Type, expected: ir.Type) -> str:
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
