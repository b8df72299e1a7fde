"""Expressions: each carries its type."""

from __future__ import annotations

from grammar.ir.types import Bits, Bool, Struct, Type, Vector
from grammar.record import Record


class Literal(Record):
    """A constant; `value` is 0 or 1 for bool."""

    type: Type
    value: int  # 0 or 1 for bool


class Local(Record):
    """A parameter, `let`, `var` or caught abort."""

    type: Type
    name: str


class Read(Record):
    """The value of a state variable (at `indices` if it is indexed)."""

    type: Type
    name: str
    indices: tuple[Expr, ...]


class ReadMemory(Record):
    """`type.width` bits, little-endian, at a byte address of a memory."""

    type: Bits
    memory: str
    address: Expr


class FieldOf(Record):
    """A field of a struct."""

    type: Type
    base: Expr
    name: str


class Slice(Record):
    """Bits `high` to `low` of a vector.  `type` is `bits(high-low+1)`."""

    type: Bits
    base: Expr
    high: int
    low: int


class Bit(Record):
    """Bit `index` of a vector, as a bool; false where the index is beyond its width."""

    type: Bool
    base: Expr
    index: Expr


class Unary(Record):
    """`op`: `not` on bool, `~` and `-` on vectors."""

    type: Type
    op: str
    operand: Expr


class Binary(Record):
    """`op` is one of `+ - * / % & | ^ << >> >>s == != < <= > >= <s <=s >s >=s and or`.

    Both sides have one type, except that a shift amount may have any width. Results wrap. `/` and `%` are
    unsigned; dividing by zero gives all ones and the dividend, as in SMT-LIB. `& | ^ == !=` work on bool too.
    """

    type: Type
    op: str
    left: Expr
    right: Expr


class Concat(Record):
    """Vectors side by side, the high part first."""

    type: Bits
    parts: tuple[Expr, ...]


class Extend(Record):
    """`base` (a vector, or a bool as one bit) widened to `type.width`, by zeros or by its sign."""

    type: Bits
    base: Expr
    signed: bool


class Cast(Record):
    """The same bits under another vector type."""

    type: Vector
    base: Expr


class Conditional(Record):
    """`if condition then then else otherwise`."""

    type: Type
    condition: Expr
    then: Expr
    otherwise: Expr


class ForAll(Record):
    """`condition` is true of each value of the local `name` from `first` to `last`.

    The type of the values is that of `first` and of `last`, and has at most `MOST_VALUES`.
    """

    type: Bool
    name: str
    first: Expr
    last: Expr
    condition: Expr


MOST_VALUES = 512


class MakeStruct(Record):
    """A struct with all its fields, in declaration order."""

    type: Struct
    values: tuple[Expr, ...]


class UpdateStruct(Record):
    """`base` with some fields replaced."""

    type: Struct
    base: Expr
    changes: tuple[tuple[str, Expr], ...]


class UpdateBits(Record):
    """`base` with bit ranges (high, low) replaced by vectors of that width, or a bool for a single bit."""

    type: Vector
    base: Expr
    changes: tuple[tuple[int, int, Expr], ...]


class Call(Record):
    """A call of the function named `function` (an instance: widths are part of the name).

    `type` is `NOTHING` where the function returns nothing.
    """

    type: Type
    function: str
    arguments: tuple[Expr, ...]


class OperandRead(Record):
    """The value of an operand."""

    type: Bits
    name: str


class OperandAttribute(Record):
    """What the encoding says of an operand.

    `index` bits(4), `is_memory` bool, `address` or `displacement` bits(64), `segment` bits(3) or `addressing` bits(12).
    """

    type: Type
    name: str
    attribute: str


class InstructionProperty(Record):
    """A property of the current instruction: `instruction_length`, `address_size`, `operand_size` or `repeat`."""

    type: Bits
    name: str


class Undefined(Record):
    """Architecturally undefined; the reference model takes `value`.  `site` is unique in the program."""

    type: Type
    value: Expr
    site: str


class Holds(Record):
    """Every rule of the group is true."""

    type: Bool
    group: str


Expr = (
    Literal
    | Local
    | Read
    | ReadMemory
    | FieldOf
    | Slice
    | Bit
    | Unary
    | Binary
    | Concat
    | Extend
    | Cast
    | Conditional
    | ForAll
    | MakeStruct
    | UpdateStruct
    | UpdateBits
    | Call
    | OperandRead
    | OperandAttribute
    | InstructionProperty
    | Undefined
    | Holds
)
