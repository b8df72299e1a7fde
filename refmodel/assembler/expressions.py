"""Expressions of assembly source: sums of registers and a number, over symbols."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from lark import Token, Tree

from refmodel.assembler.source import Node, parts
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import BY_NAME, GENERAL, INSTRUCTION_POINTER, SEGMENT, Register

_SIZES = {"byte": 8, "word": 16, "dword": 32, "qword": 64, "short": 8, "near": 32}
_LIMIT = 1 << 80  # intermediate results beyond this are mistakes


class ExpressionError(Exception):
    """What is wrong with an expression; `node` is where."""

    def __init__(self, node: Node | Token, message: str) -> None:
        super().__init__(message)
        self.node = node


@dataclass(frozen=True, slots=True)
class Linear:
    """`number` plus registers times their factors."""

    number: int
    registers: tuple[tuple[Register, int], ...] = ()


@dataclass(slots=True)
class Scope:
    """What names mean at one place: `symbols` by full name; local names (`.loop`) belong to `parent`."""

    symbols: dict[str, int]
    here: int
    origin: int
    parent: str
    final: bool

    def full_name(self, name: str) -> str:
        """A local name with the label it belongs to."""
        return self.parent + name if name.startswith(".") else name

    def look_up(self, token: Token) -> int:
        """The value of a symbol; before the last pass, an unknown one counts as the current place."""
        value = self.symbols.get(self.full_name(str(token)))
        if value is None:
            if self.final:
                raise ExpressionError(token, f"unknown name '{token}'")
            return self.here
        return value


def operand(node: Node, scope: Scope) -> Operand:
    """The operand that an `operand` node stands for."""
    size, inner = parts(node)
    assert isinstance(inner, Tree)
    width = _SIZES[str(size).lower().split()[0]] if size is not None else None
    if inner.data == "memory":
        return _memory(inner, scope, width)
    value = evaluate(inner, scope)
    if not value.registers:
        return Immediate(value.number, width)
    (register, factor), *rest = value.registers
    if rest or factor != 1 or value.number or inner.data != "name":
        raise ExpressionError(inner, "registers can be added only inside brackets")
    return register


def number(node: Node, scope: Scope) -> int:
    """The value of an expression without registers."""
    value = evaluate(node, scope)
    if value.registers:
        raise ExpressionError(node, "a number is needed here, not a register")
    return value.number


def evaluate(node: Node, scope: Scope) -> Linear:
    """The value of an expression."""
    match node.data:
        case "number":
            return Linear(int(str(node.children[0]).replace("_", ""), 0))
        case "string":
            return Linear(_character(node))
        case "here":
            return Linear(scope.here)
        case "origin":
            return Linear(scope.origin)
        case "name":
            token = node.children[0]
            assert isinstance(token, Token)
            register = BY_NAME.get(str(token).lower())
            return Linear(0, ((register, 1),)) if register else Linear(scope.look_up(token))
    return _combine(node, [evaluate(child, scope) for child in node.children if not isinstance(child, Token)])


def string_bytes(node: Node) -> bytes:
    """The bytes of a `string` node."""
    return str(node.children[0])[1:-1].encode()


def _character(node: Node) -> int:
    data = string_bytes(node)
    if not 1 <= len(data) <= 8:
        raise ExpressionError(node, "a string used as a number has 1 to 8 characters")
    return int.from_bytes(data, "little")


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "bit_or": operator.or_,
    "bit_xor": operator.xor,
    "bit_and": operator.and_,
    "shift_left": lambda a, b: a << min(b, 128),
    "shift_right": operator.rshift,
    "divide": operator.floordiv,
    "remainder": operator.mod,
}


def _combine(node: Node, values: list[Linear]) -> Linear:
    name = str(node.data)
    left, right = values[0], values[-1]
    match name:
        case "negate":
            return _scale(left, -1)
        case "add":
            return _sum(left, right)
        case "subtract":
            return _sum(left, _scale(right, -1))
        case "multiply" if not left.registers or not right.registers:
            return _checked(
                node, _scale(right, left.number) if right.registers else _scale(left, right.number)
            )
    if left.registers or right.registers:
        raise ExpressionError(node, "registers can only be added and scaled")
    if name == "complement":
        return Linear(~left.number)
    if name in ("divide", "remainder") and right.number == 0:
        raise ExpressionError(node, "division by zero")
    if name.startswith("shift") and right.number < 0:
        raise ExpressionError(node, "shift by a negative number")
    return _checked(node, Linear(_ARITHMETIC[name](left.number, right.number)))


def _checked(node: Node, value: Linear) -> Linear:
    if abs(value.number) >= _LIMIT:
        raise ExpressionError(node, "the number is too large")
    return value


def _scale(value: Linear, factor: int) -> Linear:
    return Linear(value.number * factor, tuple((register, n * factor) for register, n in value.registers))


def _sum(left: Linear, right: Linear) -> Linear:
    factors = dict(left.registers)
    for register, factor in right.registers:
        factors[register] = factors.get(register, 0) + factor
    return Linear(left.number + right.number, tuple((r, n) for r, n in factors.items() if n))


def _memory(node: Node, scope: Scope, width: int | None) -> Memory:
    outer, relative, inner, address = parts(node)
    assert isinstance(address, Tree)
    segment = _segment(inner if inner is not None else outer)
    value = evaluate(address, scope)
    if any(register.kind == INSTRUCTION_POINTER for register, _ in value.registers):
        raise ExpressionError(address, "write [rel name] for an address relative to RIP")
    if relative is not None:
        if value.registers:
            raise ExpressionError(address, "an address relative to RIP has no other registers")
        return Memory(displacement=value.number, width=width, segment=segment, relative=True)
    base, index, scale, address_width = _base_and_index(address, value)
    return Memory(base, index, scale, value.number, width, segment, address_width=address_width)


def _base_and_index(node: Node, value: Linear) -> tuple[int | None, int | None, int, int]:
    """Base, index, scale and address width of a sum of registers."""
    widths = {register.width for register, _ in value.registers}
    if (
        any(register.kind != GENERAL for register, _ in value.registers)
        or widths - {32, 64}
        or len(widths) > 1
    ):
        raise ExpressionError(node, "an address is made of 64-bit registers, or of 32-bit ones")
    base: int | None = None
    index: int | None = None
    scale = 1
    for register, factor in sorted(value.registers, key=lambda item: item[1] != 1):
        if factor == 1 and base is None:
            base = register.number
        elif factor in (1, 2, 4, 8) and index is None:
            index, scale = register.number, factor
        elif factor == 2 and base is None and index is None:
            base = index = register.number
        else:
            raise ExpressionError(node, "an address has a base, and an index times 1, 2, 4 or 8")
    return base, index, scale, next(iter(widths), 64)


def _segment(token: Node | Token | None) -> int | None:
    if token is None:
        return None
    register = BY_NAME.get(str(token).lower())
    if register is None or register.kind != SEGMENT:
        raise ExpressionError(token, f"'{token}' is not a segment register")
    return register.number
