"""Evaluates expressions; calls are left to `checks.symbolic.evaluate`, which runs statements too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from checks.symbolic import operators
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Record, Value, build, key, literal, symbol, width_of
from grammar import ir


class UnsupportedError(Exception):
    """A construct that has no meaning in the proof at hand, such as `execute` inside an instruction."""


class Operands(Protocol):
    """What the operands of the instruction under proof are."""

    def read(self, name: str, cursor: Cursor, exits: Exits) -> Value:
        """The operand's value, by whatever accesses that takes."""
        ...

    def write(self, name: str, value: Value, cursor: Cursor, exits: Exits) -> None:
        """Replaces the operand's value."""
        ...

    def attribute(self, name: str, attribute: str) -> Value:
        """One of the attributes of `ir.OperandAttribute`."""
        ...

    def property(self, name: str) -> Vector:
        """`instruction_length`, `address_size`, `operand_size` or `repeat`."""
        ...


@dataclass(slots=True)
class Touched:
    """What a run used: names of state, points of indexed state, arguments of calls (to instantiate rules at)."""

    names: set[str] = field(default_factory=set)
    points: dict[str, dict[object, Point]] = field(default_factory=dict)
    arguments: dict[tuple[str, ir.Type], dict[object, Value]] = field(default_factory=dict)
    _by_parameter: dict[int, dict[object, Value]] = field(default_factory=dict)

    def element(self, name: str, point: Point) -> None:
        """Notes a use of an element of indexed state or memory."""
        self.names.add(name)
        self.points.setdefault(name, {})[tuple(key(index) for index in point)] = point

    def argument(self, parameter: ir.Parameter, value: Value) -> None:
        """Notes the value that a call's parameter, or an index, of that name and type took."""
        values = self._by_parameter.get(id(parameter))
        if values is None:  # types are slow to hash
            values = self.arguments.setdefault((parameter.name, parameter.type), {})
            self._by_parameter[id(parameter)] = values
        values[key(value)] = value


ForAll: TypeAlias = "Callable[[ExpressionEvaluator, ir.ForAll, Point, Cursor], Truth]"
"""What a `for all` with bounds means where control is at the cursor."""


@dataclass(slots=True)
class ExpressionEvaluator(ABC):
    """Evaluates expressions of one run.  `for_all`, if given, says what such means instead of all its instances."""

    program: ir.Program
    terms: Terms
    operands: Operands | None = None
    touched: Touched = field(default_factory=Touched)
    for_all: ForAll | None = None

    @abstractmethod
    def call(
        self, function: ir.Function, arguments: tuple[Value, ...], cursor: Cursor, exits: Exits
    ) -> Value | None:
        """Runs a function on the cursor and returns its result; what it raises is added to `exits`."""

    def evaluate(self, node: ir.Expr, cursor: Cursor, exits: Exits) -> Value:
        """The value of an expression; a call in it may change the cursor and add exits."""
        return self._EXPRESSIONS[type(node)](self, node, cursor, exits)

    def pure(self, node: ir.Expr, state: State, **bindings: Value) -> Value:
        """The value of an expression without effects, its names bound as given."""
        return self.evaluate(node, Cursor(state, dict(bindings)), [])

    def _values(self, nodes: Sequence[ir.Expr], cursor: Cursor, exits: Exits) -> tuple[Value, ...]:
        return tuple(self.evaluate(node, cursor, exits) for node in nodes)

    def _literal(self, node: ir.Literal, _cursor: Cursor, _exits: Exits) -> Value:
        return literal(node.type, node.value)

    def _local(self, node: ir.Local, cursor: Cursor, _exits: Exits) -> Value:
        return cursor.locals[node.name]

    def _read(self, node: ir.Read, cursor: Cursor, exits: Exits) -> Value:
        if not node.indices:
            self.touched.names.add(node.name)
            return cursor.state.get(node.name)
        return cursor.state.elements(node.name).read(self._point(node.name, node.indices, cursor, exits))

    def _point(self, name: str, nodes: Sequence[ir.Expr], cursor: Cursor, exits: Exits) -> Point:
        point = self._values(nodes, cursor, exits)
        self.touched.element(name, point)
        for parameter, index in zip(self.program.state[name].indices, point, strict=True):
            self.touched.argument(parameter, index)
        return point

    def _read_memory(self, node: ir.ReadMemory, cursor: Cursor, exits: Exits) -> Value:
        address = cast(Vector, self.evaluate(node.address, cursor, exits))
        self.touched.element(node.memory, (address,))
        memory = cursor.state.surroundings.memories[node.memory]
        return memory.read(cursor.state.elements(node.memory), address, node.type.width)

    def _field(self, node: ir.FieldOf, cursor: Cursor, exits: Exits) -> Value:
        return cast(Record, self.evaluate(node.base, cursor, exits)).field(node.name)

    def _slice(self, node: ir.Slice, cursor: Cursor, exits: Exits) -> Value:
        return self.terms.extract(cast(Vector, self.evaluate(node.base, cursor, exits)), node.high, node.low)

    def _bit(self, node: ir.Bit, cursor: Cursor, exits: Exits) -> Value:
        base, index = self._values((node.base, node.index), cursor, exits)
        return self.terms.bit(
            cast(Vector, base),
            cast(Vector, index),
            width_of_expression(node.base),
            width_of_expression(node.index),
        )

    def _unary(self, node: ir.Unary, cursor: Cursor, exits: Exits) -> Value:
        return operators.unary(self.terms, node, self.evaluate(node.operand, cursor, exits))

    def _binary(self, node: ir.Binary, cursor: Cursor, exits: Exits) -> Value:
        left = self.evaluate(node.left, cursor, exits)
        if (node.op == "and" and left is False) or (node.op == "or" and left is True):
            return left
        return operators.binary(self.terms, node, left, self.evaluate(node.right, cursor, exits))

    def _concat(self, node: ir.Concat, cursor: Cursor, exits: Exits) -> Value:
        values = self._values(node.parts, cursor, exits)
        return self.terms.concat(
            [(cast(Vector, v), width_of_expression(part)) for v, part in zip(values, node.parts, strict=True)]
        )

    def _extend(self, node: ir.Extend, cursor: Cursor, exits: Exits) -> Value:
        return operators.extend(self.terms, node, self.evaluate(node.base, cursor, exits))

    def _cast(self, node: ir.Cast, cursor: Cursor, exits: Exits) -> Value:
        return self.evaluate(node.base, cursor, exits)

    def _conditional(self, node: ir.Conditional, cursor: Cursor, exits: Exits) -> Value:
        condition = self.evaluate(node.condition, cursor, exits)
        if isinstance(condition, bool):
            return self.evaluate(node.then if condition else node.otherwise, cursor, exits)
        then, otherwise = self._values((node.then, node.otherwise), cursor, exits)
        return operators.conditional(self.terms, node, condition, then, otherwise)

    def _for_all(self, node: ir.ForAll, cursor: Cursor, exits: Exits) -> Value:
        bounds = self._values((node.first, node.last), cursor, exits)
        if self.for_all is not None:
            return self.for_all(self, node, bounds, cursor)
        values = range(1 << width_of_expression(node.first))
        return self.terms.conjunction(self.instance(node, value, bounds, cursor) for value in values)

    def instance(self, node: ir.ForAll, value: Vector, bounds: Point, cursor: Cursor) -> Truth:
        """What a `for all` with these bounds says of one value."""
        first, last = cast(tuple[Vector, Vector], bounds)
        width, terms = width_of_expression(node.first), self.terms
        above = terms.compare("<=", first, value, width)
        below = terms.compare("<=", value, last, width)
        if False in (above, below):
            return True
        inner = Cursor(cursor.state.copy(), {**cursor.locals, node.name: value}, cursor.types)
        holds = cast(Truth, self.evaluate(node.condition, inner, []))
        return terms.implies(terms.conjunction((above, below)), holds)

    def _make_struct(self, node: ir.MakeStruct, cursor: Cursor, exits: Exits) -> Value:
        return Record(node.type, self._values(node.values, cursor, exits))

    def _update_struct(self, node: ir.UpdateStruct, cursor: Cursor, exits: Exits) -> Value:
        record = cast(Record, self.evaluate(node.base, cursor, exits))
        for name, change in node.changes:
            record = record.replaced(name, self.evaluate(change, cursor, exits))
        return record

    def _update_bits(self, node: ir.UpdateBits, cursor: Cursor, exits: Exits) -> Value:
        base = cast(Vector, self.evaluate(node.base, cursor, exits))
        changes: list[tuple[int, int, Vector]] = []
        for high, low, change in node.changes:
            value = self.evaluate(change, cursor, exits)
            is_bool = isinstance(change.type, ir.Bool)
            bits = self.terms.as_vector(cast(Truth, value)) if is_bool else cast(Vector, value)
            changes.append((high, low, bits))
        return operators.update_bits(self.terms, base, node.type.width, changes)

    def _call(self, node: ir.Call, cursor: Cursor, exits: Exits) -> Value:
        arguments = self._values(node.arguments, cursor, exits)
        return cast(Value, self.call(self.program.functions[node.function], arguments, cursor, exits))

    def _operand_read(self, node: ir.OperandRead, cursor: Cursor, exits: Exits) -> Value:
        return self._operands.read(node.name, cursor, exits)

    def _operand_attribute(self, node: ir.OperandAttribute, _cursor: Cursor, _exits: Exits) -> Value:
        return self._operands.attribute(node.name, node.attribute)

    def _instruction_property(self, node: ir.InstructionProperty, _cursor: Cursor, _exits: Exits) -> Value:
        return self._operands.property(node.name)

    def _undefined(self, node: ir.Undefined, _cursor: Cursor, _exits: Exits) -> Value:
        """A symbol of the site, the same in all runs: nothing may depend on what the value is."""
        return build(node.type, f"undefined!{node.site}", lambda name, type_: symbol(self.terms, name, type_))

    def _holds(self, node: ir.Holds, cursor: Cursor, exits: Exits) -> Value:
        rules = self.program.rules[node.group].rules
        return self.terms.conjunction(cast(Truth, self.evaluate(r.condition, cursor, exits)) for r in rules)

    @property
    def _operands(self) -> Operands:
        if self.operands is None:
            raise UnsupportedError("an operand outside an instruction")
        return self.operands

    _EXPRESSIONS: ClassVar[dict[type, Callable[..., Any]]] = {
        ir.Literal: _literal,
        ir.Local: _local,
        ir.Read: _read,
        ir.ReadMemory: _read_memory,
        ir.FieldOf: _field,
        ir.Slice: _slice,
        ir.Bit: _bit,
        ir.Unary: _unary,
        ir.Binary: _binary,
        ir.Concat: _concat,
        ir.Extend: _extend,
        ir.Cast: _cast,
        ir.Conditional: _conditional,
        ir.ForAll: _for_all,
        ir.MakeStruct: _make_struct,
        ir.UpdateStruct: _update_struct,
        ir.UpdateBits: _update_bits,
        ir.Call: _call,
        ir.OperandRead: _operand_read,
        ir.OperandAttribute: _operand_attribute,
        ir.InstructionProperty: _instruction_property,
        ir.Undefined: _undefined,
        ir.Holds: _holds,
    }


def width_of_expression(node: ir.Expr) -> int:
    """The width of an expression's vector type; a bool counts as one bit."""
    return width_of(node.type)
