"""Expressions without an operator of their own: names, state, parts of values, calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from grammar import ir
from refmodel.generate import names
from refmodel.generate.bounds import ones, width_of
from refmodel.generate.code import ATOM, UNARY, Code, call, choice, joined, number, operation

_READ_SIZES = frozenset({8, 16, 32, 64})


class Leaves(ABC):
    """Writes expressions without an operator; adds the masks that the module has to define to `masks`.

    `updated` names the operands that are both read and written: their reads announce the write.
    """

    def __init__(
        self, program: ir.Program, identifiers: names.Names, masks: set[int], updated: frozenset[str]
    ) -> None:
        self._program = program
        self._names = identifiers
        self._masks = masks
        self._updated = updated
        self._leaves: dict[type, Callable[..., Code]] = {
            ir.Literal: self._literal,
            ir.Local: self._local,
            ir.Read: self._read,
            ir.ReadMemory: self._read_memory,
            ir.FieldOf: self._field_of,
            ir.Slice: self._slice,
            ir.Bit: self._bit,
            ir.Concat: self._concat,
            ir.Extend: self._extend,
            ir.Cast: self._cast,
            ir.ForAll: self._for_all,
            ir.MakeStruct: self._make_struct,
            ir.UpdateStruct: self._update_struct,
            ir.UpdateBits: self._update_bits,
            ir.Call: self._call,
            ir.OperandRead: self._operand_read,
            ir.OperandAttribute: self._operand_attribute,
            ir.InstructionProperty: self._instruction_property,
            ir.Undefined: self._undefined,
            ir.Holds: self._holds,
        }

    @abstractmethod
    def value(self, expression: ir.Expr) -> Code:
        """The value, within its width."""

    @abstractmethod
    def raw(self, expression: ir.Expr) -> Code:
        """A value that is right modulo 2**width; it may be too large or negative."""

    @abstractmethod
    def condition(self, expression: ir.Expr) -> Code:
        """A text that is true exactly if the expression is."""

    def masked(self, text: Code, width: int) -> Code:
        """The low `width` bits of a raw value."""
        return operation("&", text, self.mask(width))

    def mask(self, width: int) -> Code:
        """`width` ones: by name from 16 bits on."""
        if width < 16:
            return number(ones(width))
        self._masks.add(width)
        return Code(names.mask_name(width))

    def amount(self, amount: ir.Expr) -> Code:
        """A shift amount: in decimal if it is constant."""
        return Code(str(amount.value)) if isinstance(amount, ir.Literal) else self.value(amount)

    def leaf(self, expression: ir.Expr) -> Code:
        """An expression of a kind that has no operator."""
        return self._leaves[type(expression)](expression)

    def _literal(self, e: ir.Literal) -> Code:
        if isinstance(e.type, ir.Bool):
            return Code(str(bool(e.value)))
        if isinstance(e.type, ir.Enum):
            member = next((name for name, value in e.type.members if value == e.value), None)
            return Code(names.enum_constant(e.type, member)) if member else number(e.value)
        if e.value >= 1 << 16 and e.value == ones(width_of(e.type)):
            return self.mask(width_of(e.type))
        return number(e.value)

    def _local(self, e: ir.Local) -> Code:
        return Code(self._names.local(e.name))

    def _read(self, e: ir.Read) -> Code:
        variable = self._program.state[e.name]
        if variable.space == "ghost":  # ghosts exist for the proofs only: nothing is ever written to them
            return Code("False" if isinstance(e.type, ir.Bool) else "0")
        return Code(self.place(variable, e.indices))

    def place(self, variable: ir.StateVariable, indices: tuple[ir.Expr, ...]) -> str:
        """Where the machine keeps a state variable."""
        owner = f"{names.MACHINE}.vmcs" if variable.space == "vmcs" else names.MACHINE
        subscript = ", ".join(self.value(index).text for index in indices)
        return f"{owner}.{variable.name}[{subscript}]" if indices else f"{owner}.{variable.name}"

    def _read_memory(self, e: ir.ReadMemory) -> Code:
        address = self.value(e.address)
        memory = f"{names.MACHINE}.{e.memory}"
        if e.type.width in _READ_SIZES:
            return call(f"{memory}.read_{e.type.width}", [address])
        return call(f"{memory}.read", [address, number(e.type.width // 8)])

    def _field_of(self, e: ir.FieldOf) -> Code:
        return Code(f"{self.value(e.base).at(ATOM)}.{self._names.field(e.name)}")

    def _slice(self, e: ir.Slice) -> Code:
        width = width_of(e.base.type)
        if e.low == 0 and e.high == width - 1:
            return self.value(e.base)
        if e.low == 0:
            return self.masked(self.raw(e.base), e.high + 1)
        if e.high == width - 1:
            return operation(">>", self.value(e.base), Code(str(e.low)))
        if self._member(e.base.type, e.high, e.low):
            field = operation("&", self.value(e.base), self.bits(e.base.type, e.high, e.low))
            return operation(">>", field, Code(str(e.low)))
        return self.masked(operation(">>", self.value(e.base), Code(str(e.low))), e.high - e.low + 1)

    def _bit(self, e: ir.Bit) -> Code:
        if isinstance(e.index, ir.Literal) and self._member(e.base.type, e.index.value, e.index.value):
            return operation("!=", self.condition(e), Code("0"))
        shifted = operation(">>", self.value(e.base), self.amount(e.index))
        return operation("&", shifted, Code("1"))

    @staticmethod
    def _member(type_: ir.Type | None, high: int, low: int) -> str | None:
        if not isinstance(type_, ir.Bitfield):
            return None
        return next((m.name for m in type_.members if (m.high, m.low) == (high, low)), None)

    def bits(self, type_: ir.Type | None, high: int, low: int) -> Code:
        """A constant with bits `high` to `low` set, by its name if it is a member of a bitfield."""
        member = self._member(type_, high, low)
        if member and isinstance(type_, ir.Bitfield):
            return Code(names.field_mask(type_, member))
        return number(ones(high - low + 1) << low)

    def _concat(self, e: ir.Concat) -> Code:
        parts, position = [], e.type.width
        for part in e.parts:
            position -= width_of(part.type)
            if isinstance(part, ir.Literal) and part.value == 0:
                continue
            parts.append(
                operation("<<", self._vector(part), Code(str(position))) if position else self._vector(part)
            )
        return joined("|", parts) if parts else number(0)

    def _vector(self, expression: ir.Expr) -> Code:
        """The value as an int, also of a bool."""
        if not isinstance(expression.type, ir.Bool):
            return self.value(expression)
        return choice(self.condition(expression), Code("1"), Code("0"))

    def _extend(self, e: ir.Extend) -> Code:
        return self._vector(e.base)

    def _cast(self, e: ir.Cast) -> Code:
        return self.value(e.base)

    def _for_all(self, e: ir.ForAll) -> Code:
        values = call("range", [self.value(e.first), operation("+", self.value(e.last), Code("1"))])
        return Code(
            f"all({self.condition(e.condition).text} for {self._names.local(e.name)} in {values.text})"
        )

    def _make_struct(self, e: ir.MakeStruct) -> Code:
        pairs = zip(e.type.fields, e.values, strict=True)
        given = [(name, value) for (name, _), value in pairs if not _is_zero(value)]
        return self._make(e.type, given)

    def _make(self, type_: ir.Struct, given: list[tuple[str, ir.Expr]]) -> Code:
        arguments = [Code(f"{self._names.field(name)}={self.value(value).text}") for name, value in given]
        return call(type_.name, arguments)

    def _update_struct(self, e: ir.UpdateStruct) -> Code:
        arguments = [Code(f"{self._names.field(name)}={self.value(value).text}") for name, value in e.changes]
        return call(f"{self.value(e.base).at(ATOM)}._replace", arguments)

    def _update_bits(self, e: ir.UpdateBits) -> Code:
        changed = sum(ones(high - low + 1) << low for high, low, _ in e.changes)
        kept = ones(width_of(e.type)) & ~changed
        parts = [self._changed(e.type, change) for change in e.changes if not _is_zero(change[2])]
        if not isinstance(e.base, ir.Literal) and kept:
            parts.insert(0, operation("&", self.value(e.base), self._kept(e, kept)))
        elif isinstance(e.base, ir.Literal) and e.base.value & kept:
            parts.insert(0, number(e.base.value & kept))
        return joined("|", parts) if parts else number(0)

    def _kept(self, e: ir.UpdateBits, kept: int) -> Code:
        """The mask of the bits that do not change; for a single member by its name."""
        high, low, _ = e.changes[0]
        if len(e.changes) == 1 and self._member(e.type, high, low):
            return Code(f"~{self.bits(e.type, high, low).text}", UNARY)
        return number(kept)

    def _changed(self, type_: ir.Vector, change: tuple[int, int, ir.Expr]) -> Code:
        high, low, value = change
        if isinstance(value.type, ir.Bool):
            bit = self.bits(type_, high, low)
            if isinstance(value, ir.Literal):
                return bit
            return choice(self.condition(value), bit, Code("0"))
        if isinstance(value, ir.Literal):
            return number(value.value << low)
        return operation("<<", self.value(value), Code(str(low))) if low else self.value(value)

    def _call(self, e: ir.Call) -> Code:
        return call(
            self._names.function(e.function), [Code(names.MACHINE), *(self.value(a) for a in e.arguments)]
        )

    def _operand_read(self, e: ir.OperandRead) -> Code:
        access = "modify" if e.name in self._updated else "read"
        return Code(f"{self._names.local(e.name)}.{access}({names.MACHINE})")

    def _operand_attribute(self, e: ir.OperandAttribute) -> Code:
        operand = self._names.local(e.name)
        if e.attribute in ("address", "displacement"):  # these may depend on registers
            return Code(f"{operand}.{e.attribute}({names.MACHINE})")
        return Code(f"{operand}.{e.attribute}")

    def _instruction_property(self, e: ir.InstructionProperty) -> Code:
        return Code(f"{names.MACHINE}.{e.name}")

    def _undefined(self, e: ir.Undefined) -> Code:
        return self.value(e.value)

    def _holds(self, e: ir.Holds) -> Code:
        return Code(f"holds_{e.group}({names.MACHINE})")


def _is_zero(value: ir.Expr) -> bool:
    return isinstance(value, ir.Literal) and value.value == 0
