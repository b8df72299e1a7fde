"""What a specification declares, and the whole `Program`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from grammar.ir.expressions import Expr
from grammar.ir.statements import Stmt
from grammar.ir.types import Struct, Type, Vector
from grammar.record import Record
from grammar.source import Span


class Parameter(Record):
    """A parameter of a function, an index of a state variable."""

    name: str
    type: Type


class StateVariable(Record):
    """One piece of state.

    `space` is `register`, `vmcs`, `state` or `ghost`. `owner` is true where the guest owns it (an expression over
    the controls and, by name, the indices). `view` is what the guest sees as this item, None if nothing of it;
    `host` the part of it that is the VMM's, None if none. `carries_value`: see `value` in docs/language.md.
    """

    span: Span
    doc: str
    space: str
    name: str
    indices: tuple[Parameter, ...]
    type: Type
    reset: int
    encoding: int | None
    owner: Expr
    view: Expr | None
    host: Expr | None
    carries_value: bool


class Memory(Record):
    """A byte-addressed memory."""

    span: Span
    doc: str
    name: str
    address: Vector


class Function(Record, later="body"):
    """One instance of a function.

    `source` is the name without widths, `widths` the width parameters. `raises` and `writes` are what it may do,
    its callees included; `name` is a valid Python identifier (`load_64`). A cached function's results are remembered
    under `keys`, expressions over its parameters.
    """

    span: Span
    doc: str
    name: str
    source: str
    widths: tuple[tuple[str, int], ...]
    parameters: tuple[Parameter, ...]
    result: Type | None
    body: tuple[Stmt, ...]
    cached: bool
    raises: bool
    writes: bool
    keys: tuple[Expr, ...] = ()


class OpcodeByte(Record):
    """A byte of the opcode; `register` if its low three bits number a register."""

    value: int
    register: bool = False


class EncodingRow(Record):
    """One line of an opcode table, family members written out.

    `modrm` is None (no ModR/M byte), "r" (reg field is an operand) or 0…7 (reg field belongs to the opcode).
    `prefixes` and `attributes` hold the words of docs/language.md; `operands` the codes, in operand order.
    """

    span: Span
    prefixes: tuple[str, ...]
    opcode: tuple[OpcodeByte, ...]
    modrm: int | str | None
    operands: tuple[str, ...]
    attributes: tuple[str, ...]


class OperandCode(Record):
    """A row of the `operands` table.

    `width` is 8 to 128, "v", "z", "y" or None (an address only); `register` the number of a fixed register, or of the
    one that addresses memory.
    """

    name: str
    kind: str
    width: int | str | None
    register: int | None
    doc: str


class OperandUse(Record):
    """How the body uses an operand: as a value read, written, or only through its attributes."""

    name: str
    width: int | None
    reads: bool
    writes: bool


class InstructionBody(Record, later="body"):
    """The semantics of an instruction for one tuple of operand widths.  `name` is a Python identifier."""

    name: str
    widths: tuple[int | None, ...]
    operands: tuple[OperandUse, ...]
    body: tuple[Stmt, ...]


class Instruction(Record):
    """`family` is the name before expansion (`J{cc}`), `member` the enum member it is for."""

    span: Span
    doc: str
    name: str
    family: str | None
    syntax: str | None
    operands: tuple[str, ...]
    rows: tuple[EncodingRow, ...]
    bodies: tuple[InstructionBody, ...]

    def body(self, widths: tuple[int | None, ...]) -> InstructionBody:
        """The semantics for these operand widths."""
        return next(b for b in self.bodies if b.widths == widths)


class Step(Record, later="body"):
    """A micro-step of the VMM, or of the hardware: the function of the same name, with this body.

    A `require` is an `If` whose clause is "require": it returns false if its condition (the negation of what
    is required) holds.
    """

    span: Span
    doc: str
    name: str
    hardware: bool
    parameters: tuple[Parameter, ...]
    body: tuple[Stmt, ...]


class Handler(Record, later="body"):
    """Runs at a VM exit whose reason has `value`; `value` is None for the handler of all other reasons."""

    span: Span
    doc: str
    name: str
    value: int | None
    body: tuple[Stmt, ...]


class Predicate(Record):
    """A named condition for all values of its parameters: a `policy` or an `invariant`."""

    span: Span
    doc: str
    name: str
    parameters: tuple[Parameter, ...]
    condition: Expr


class Rules(Record):
    """Named conditions checked together (VM-entry checks)."""

    span: Span
    doc: str
    name: str
    rules: tuple[Predicate, ...]


class Abort(Record):
    """What `raise` carries.  `guard` is the condition of the `exit` statement, for the abort that has one."""

    span: Span
    doc: str
    name: str
    type: Struct
    guard: Expr | None


class OutputDeclaration(Record):
    """An effect on the outside world: a console."""

    span: Span
    doc: str
    name: str
    parameters: tuple[Parameter, ...]


class Missing(Record):
    """A part of the architecture that is left out; `doc` says what it is and why."""

    span: Span
    doc: str
    name: str


class Constant(Record):
    """A named constant."""

    span: Span
    doc: str
    name: str
    type: Type
    value: int


@dataclass
class Program:
    """A checked specification.  Dictionaries keep the order of the files.

    `key` identifies the files that `load` read it from; a program made otherwise, as by `replace`, has none.
    """

    types: dict[str, Type] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    state: dict[str, StateVariable] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    aborts: dict[str, Abort] = field(default_factory=dict)
    outputs: dict[str, OutputDeclaration] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    operands: dict[str, OperandCode] = field(default_factory=dict)
    instructions: dict[str, Instruction] = field(default_factory=dict)
    undefined_encodings: tuple[EncodingRow, ...] = ()
    steps: dict[str, Step] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    invariants: dict[str, Predicate] = field(default_factory=dict)
    policies: dict[str, Predicate] = field(default_factory=dict)
    rules: dict[str, Rules] = field(default_factory=dict)
    missing: dict[str, Missing] = field(default_factory=dict)
    key: str | None = field(default=None, init=False, compare=False)

    def state_in(self, space: str) -> Iterator[StateVariable]:
        """The state variables of one space."""
        return (v for v in self.state.values() if v.space == space)
