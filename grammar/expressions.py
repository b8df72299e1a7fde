"""Type-checks expressions: tree to typed IR, literals taking the type their context expects."""

from __future__ import annotations

from collections.abc import Callable

from grammar import ir
from grammar.context import Expectation, Functions
from grammar.environment import CheckError, Environment, fail, parse_number, suggestion, width_of
from grammar.fold import fold
from grammar.operators import OperatorChecker
from grammar.parse import Item
from grammar.parts import OPERAND_ATTRIBUTES, PartChecker
from grammar.scope import Scope
from grammar.tree import Node

# What an instruction's body may ask about the bytes that encode it; see docs/language.md.
INSTRUCTION_PROPERTIES = {
    "instruction_length": ir.bits(64),
    "address_size": ir.bits(64),
    "operand_size": ir.bits(64),
    "repeat": ir.bits(8),
}


class ExpressionChecker(OperatorChecker, PartChecker):
    """Checks all expressions: atoms and calls here, the rest in its base classes."""

    def __init__(self, env: Environment, functions: Functions, item: Item, scope: Scope) -> None:
        super().__init__(env, functions, item, scope)
        self._checks: dict[str, Callable[[Node, Expectation], ir.Expr]] = {
            "number": self._number,
            "truth": lambda node, _: ir.Literal(ir.BOOL, int(node.children[0] == "true")),
            "name": self._name,
            "unary": self._unary,
            "binary": lambda node, e: self._binary(
                node, str(node.children[1]), node.children[0], node.children[2], e
            ),
            "concat": self._concat,
            "cast": self._cast,
            "conditional": self._conditional,
            "for_all": self._for_all,
            "within": self._within,
            "subscript": self._subscript,
            "slice": self._slice,
            "attribute_of": self._attribute,
            "updated": self._updated,
            "make": self._make,
            "call": self._call,
        }

    def rule(self, kind: str) -> Callable[[Node, Expectation], ir.Expr]:
        """How a kind of tree is checked."""
        return self._checks[kind]

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
        if name in INSTRUCTION_PROPERTIES and scope.in_instruction:
            return ir.InstructionProperty(INSTRUCTION_PROPERTIES[name], name)
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
            *(INSTRUCTION_PROPERTIES if self.scope.in_instruction else ()),
            *self.env.state,
            *self.env.constants,
            *self.env.members,
        ]
        raise fail("name", f"unknown name '{name}'", self.span(node), hint=suggestion(name, known))

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
        return ir.OperandRead(ir.bits(operand.width), name)

    # --- calls

    def _call(self, node: Node, expected: Expectation) -> ir.Expr:
        name, arguments = str(node.children[0]), [c for c in node.children[1:] if c is not None]
        match name, arguments:
            case "zero_extend" | "sign_extend", [value, width]:
                return self._extend(value, self.width(width), name == "sign_extend")
            case "truncate", [value, width]:
                return self._truncate(node, value, self.width(width))
            case "bit", [value]:
                return ir.Extend(ir.bits(1), self.condition(value), False)
            case "undefined", [value]:
                inner = self.infer(value, expected)
                return ir.Undefined(inner.type, inner, self.functions.undefined_site(self.item))
            case "holds", [group] if group.data == "name":
                return self._holds(group)
        call = self.functions.call(self, node)
        if call.type == ir.NOTHING:
            raise fail("type", f"'{name}' returns nothing", self.span(node))
        return call

    def _extend(self, node: Node, width: int, signed: bool) -> ir.Expr:
        value = self.infer(node, ir.bits(width)) if self.needs_context(node) else self.infer(node)
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
        return ir.Extend(ir.bits(width), value, signed)

    def _plain(self, value: ir.Expr) -> ir.Expr:
        plain = ir.bits(width_of(value.type) or 1)
        return value if value.type == plain else fold(ir.Cast(plain, value))

    def _truncate(self, node: Node, inner: Node, width: int) -> ir.Expr:
        value = self.infer(inner)
        have = width_of(value.type)
        if have is None or have < width:
            raise fail("width", f"{value.type} cannot be truncated to {width} bits", self.span(node))
        return self._plain(value) if have == width else ir.Slice(ir.bits(width), value, width - 1, 0)

    def _holds(self, node: Node) -> ir.Expr:
        name = str(node.children[0])
        if name not in self.functions.rule_groups():
            raise fail(
                "name",
                f"there are no rules '{name}'",
                self.span(node),
                hint=suggestion(name, self.functions.rule_groups()),
            )
        return ir.Holds(ir.BOOL, name)
