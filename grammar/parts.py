"""Type-checks parts of values: bits, slices, fields, indexed state and memory, and values made of fields."""

from __future__ import annotations

from grammar import ir
from grammar.context import Context, Expectation
from grammar.environment import fail, suggestion, width_of
from grammar.source import Span
from grammar.tree import Node

OPERAND_ATTRIBUTES: dict[str, ir.Type] = {
    "index": ir.bits(4),
    "is_memory": ir.BOOL,
    "address": ir.bits(64),
    "segment": ir.bits(3),
    "displacement": ir.bits(64),
    "addressing": ir.bits(12),
}


class PartChecker(Context):
    """Subscripts, slices, fields, `with` and `Name { … }`."""

    def _subscript(self, node: Node, _expected: Expectation) -> ir.Expr:
        base, *arguments = node.children
        name = str(base.children[0]) if base.data == "name" else ""
        if name not in self.scope.locals and name not in self.scope.operands:
            if name in self.env.state and self.env.state[name].indices:
                return ir.Read(self.env.state[name].type, name, self.indices(node, name, arguments))
            if name in self.env.items and self.env.items[name].tree.data == "memory":
                address, width = self.memory_place(node, name, arguments)
                return ir.ReadMemory(ir.bits(width), name, address)
        value = self.infer(base)
        bits = width_of(value.type)
        if bits is None or len(arguments) != 1:
            raise fail("index", f"{value.type} cannot be indexed like this", self.span(node))
        index = (
            self.infer(arguments[0], ir.bits(16))
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
        return ir.Slice(ir.bits(high - low + 1), value, high, low)

    def slice_bounds(self, node: Node, type_: ir.Type) -> tuple[int, int]:
        """The bounds in `x[high..low]`."""
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
            if isinstance(enum, ir.Enum) and not self.is_variable(owner):
                if name in dict(enum.members):
                    return ir.Literal(enum, dict(enum.members)[name])
                raise fail(
                    "name",
                    f"{owner} has no member '{name}'",
                    self.span(node),
                    hint=suggestion(name, dict(enum.members)),
                )
        value = self.infer(base)
        if isinstance(value.type, ir.Bitfield) and (member := value.type.member(name)):
            if member.high == member.low:
                return ir.Bit(ir.BOOL, value, ir.Literal(ir.bits(16), member.low))
            return ir.Slice(ir.bits(member.high - member.low + 1), value, member.high, member.low)
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
            return suggestion(name, (m.name for m in type_.members))
        return suggestion(name, dict(type_.fields)) if isinstance(type_, ir.Struct) else ""

    def _updated(self, node: Node, expected: Expectation) -> ir.Expr:
        base = self.infer(node.children[0], expected)
        changes = self.assignments(node.children[1])
        if isinstance(base.type, ir.Struct):
            return ir.UpdateStruct(base.type, base, tuple(self._struct_values(base.type, changes).items()))
        if isinstance(base.type, ir.Bitfield):
            return ir.UpdateBits(base.type, base, self._bit_values(base.type, changes))
        raise fail("type", f"{base.type} has no fields to change", self.span(node))

    def _make(self, node: Node, _expected: Expectation) -> ir.Expr:
        type_ = self.env.named_type(str(node.children[0]), self.span(node))
        changes = self.assignments(node.children[1])
        return self.make(type_, changes, self.span(node))

    def make(self, type_: ir.Type, changes: dict[str, Node], span: Span) -> ir.Expr:
        """A struct or bitfield built from some of its fields; the others are zero."""
        if isinstance(type_, ir.Bitfield):
            return ir.UpdateBits(type_, ir.Literal(type_, 0), self._bit_values(type_, changes))
        if not isinstance(type_, ir.Struct):
            raise fail("type", f"{type_} has no fields", span)
        values = self._struct_values(type_, changes)
        return ir.MakeStruct(type_, tuple(values.get(name) or zero(t) for name, t in type_.fields))

    def assignments(self, node: Node | None) -> dict[str, Node]:
        """The fields and values between braces."""
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
                (member.high, member.low, self.check(node, ir.BOOL if width == 1 else ir.bits(width)))
            )
        return tuple(result)


def zero(type_: ir.Type) -> ir.Expr:
    """The zero of a type: false, 0, or a struct of zeros."""
    if isinstance(type_, ir.Struct):
        return ir.MakeStruct(type_, tuple(zero(t) for _, t in type_.fields))
    return ir.Literal(type_, 0)
