"""The typed IR: what a checked specification is, and all that any back end ever sees.

Every node is a frozen dataclass. An expression carries its type; widths are numbers, since each generic
function and instruction was checked once for every set of widths it is used with. State, functions and
instructions are named by strings, so a back end needs no symbol tables of its own.

The classes have no `__slots__`: without them a program is unpickled from the cache in half the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from grammar.source import Span

# --- types ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bool:
    """A truth value."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Bits:
    """A bit vector of `width` bits."""

    width: int

    def __str__(self) -> str:
        return f"bits({self.width})"


@dataclass(frozen=True)
class Newtype:
    """The same bits as `bits(width)` under a name that does not mix with others."""

    name: str
    width: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Enum:
    """Named constants of `width` bits."""

    name: str
    width: int
    members: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class BitfieldMember:
    """Bits `high` to `low` of a bitfield, with the line of documentation that stands behind it."""

    name: str
    high: int
    low: int
    doc: str


@dataclass(frozen=True)
class Bitfield:
    """`width` bits some of which have names; a field of one bit is a `bool`."""

    name: str
    width: int
    members: tuple[BitfieldMember, ...]

    def member(self, name: str) -> BitfieldMember | None:
        """The field of that name."""
        return next((m for m in self.members if m.name == name), None)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Struct:
    """A record of named fields."""

    name: str
    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return self.name


Vector = Bits | Newtype | Enum | Bitfield
Type = Bool | Bits | Newtype | Enum | Bitfield | Struct

BOOL = Bool()
# The type of a call of a function that returns nothing.
NOTHING = Struct("nothing", ())

# --- expressions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    """A constant; `value` is 0 or 1 for bool."""

    type: Type
    value: int  # 0 or 1 for bool


@dataclass(frozen=True)
class Local:
    """A parameter, `let`, `var` or caught abort."""

    type: Type
    name: str


@dataclass(frozen=True)
class Read:
    """The value of a state variable (at `indices` if it is indexed)."""

    type: Type
    name: str
    indices: tuple[Expr, ...]


@dataclass(frozen=True)
class ReadMemory:
    """`type.width` bits, little-endian, at a byte address of a memory."""

    type: Bits
    memory: str
    address: Expr


@dataclass(frozen=True)
class FieldOf:
    """A field of a struct."""

    type: Type
    base: Expr
    name: str


@dataclass(frozen=True)
class Slice:
    """Bits `high` to `low` of a vector.  `type` is `bits(high-low+1)`."""

    type: Bits
    base: Expr
    high: int
    low: int


@dataclass(frozen=True)
class Bit:
    """Bit `index` of a vector, as a bool; false where the index is beyond its width."""

    type: Bool
    base: Expr
    index: Expr


@dataclass(frozen=True)
class Unary:
    """`op`: `not` on bool, `~` and `-` on vectors."""

    type: Type
    op: str
    operand: Expr


@dataclass(frozen=True)
class Binary:
    """`op` is one of `+ - * / % & | ^ << >> >>s == != < <= > >= <s <=s >s >=s and or`.

    Both sides have one type, except that a shift amount may have any width. Results wrap. `/` and `%` are
    unsigned; dividing by zero gives all ones and the dividend, as in SMT-LIB. `& | ^ == !=` work on bool too.
    """

    type: Type
    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Concat:
    """Vectors side by side, the high part first."""

    type: Bits
    parts: tuple[Expr, ...]


@dataclass(frozen=True)
class Extend:
    """`base` (a vector, or a bool as one bit) widened to `type.width`, by zeros or by its sign."""

    type: Bits
    base: Expr
    signed: bool


@dataclass(frozen=True)
class Cast:
    """The same bits under another vector type."""

    type: Vector
    base: Expr


@dataclass(frozen=True)
class Conditional:
    """`if condition then then else otherwise`."""

    type: Type
    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True)
class MakeStruct:
    """A struct with all its fields, in declaration order."""

    type: Struct
    values: tuple[Expr, ...]


@dataclass(frozen=True)
class UpdateStruct:
    """`base` with some fields replaced."""

    type: Struct
    base: Expr
    changes: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class UpdateBits:
    """`base` with bit ranges (high, low) replaced by vectors of that width, or a bool for a single bit."""

    type: Vector
    base: Expr
    changes: tuple[tuple[int, int, Expr], ...]


@dataclass(frozen=True)
class Call:
    """A call of the function named `function` (an instance: widths are part of the name).

    `type` is `NOTHING` where the function returns nothing.
    """

    type: Type
    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True)
class OperandRead:
    """The value of an operand."""

    type: Bits
    name: str


@dataclass(frozen=True)
class OperandAttribute:
    """`index` bits(4), `is_memory` bool, `address` or `displacement` bits(64), or `segment` bits(3) of an operand."""

    type: Type
    name: str
    attribute: str


@dataclass(frozen=True)
class InstructionProperty:
    """A property of the current instruction: `instruction_length`, `address_size`, `operand_size` or `repeat`."""

    type: Bits
    name: str


@dataclass(frozen=True)
class Undefined:
    """Architecturally undefined; the reference model takes `value`.  `site` is unique in the program."""

    type: Type
    value: Expr
    site: str


@dataclass(frozen=True)
class Holds:
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

# --- statements ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetLocal:
    """Declares (`let`, `var`) or assigns a local."""

    span: Span
    name: str
    value: Expr
    declares: bool


@dataclass(frozen=True)
class WriteState:
    """Assigns a state variable (at `indices` if it is indexed)."""

    span: Span
    name: str
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class WriteMemory:
    """Writes the value's width in bits, little-endian."""

    span: Span
    memory: str
    address: Expr
    value: Expr


@dataclass(frozen=True)
class WriteOperand:
    """Assigns the register or memory an operand stands for."""

    span: Span
    name: str
    value: Expr


@dataclass(frozen=True)
class CallStatement:
    """Calls a function for its effect."""

    span: Span
    call: Call


@dataclass(frozen=True)
class If:
    """`clause` says how it was written: `if`, `check`, `exit` or `require` (for documentation, mutation, messages)."""

    span: Span
    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...]
    clause: str = "if"


@dataclass(frozen=True)
class Return:
    """Leaves the function."""

    span: Span
    value: Expr | None


@dataclass(frozen=True)
class Raise:
    """Ends the instruction with the abort `kind`, unless an `attempt` around it catches that kind."""

    span: Span
    kind: str
    value: Expr  # a MakeStruct, or a caught struct raised again


@dataclass(frozen=True)
class Catch:
    """What an `attempt` does after an abort of `kind`, whose value is the local `name`."""

    kind: str
    name: str
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Attempt:
    """Runs `body`; an abort of a caught kind continues in its clause."""

    span: Span
    body: tuple[Stmt, ...]
    catches: tuple[Catch, ...]


@dataclass(frozen=True)
class Forget:
    """Empties the cached function `function` (all its instances), or forgets results whose first keys are `keys`."""

    span: Span
    function: str
    keys: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class Execute:
    """Fetches, decodes and executes one instruction."""

    span: Span


@dataclass(frozen=True)
class Dispatch:
    """Runs the handler whose reason equals `reason`; with none, the handler named `otherwise`."""

    span: Span
    reason: Expr


@dataclass(frozen=True)
class Output:
    """An effect on the outside world."""

    span: Span
    name: str
    arguments: tuple[Expr, ...]


Stmt = (
    SetLocal
    | WriteState
    | WriteMemory
    | WriteOperand
    | CallStatement
    | If
    | Return
    | Raise
    | Attempt
    | Forget
    | Execute
    | Dispatch
    | Output
)

# --- items ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function, an index of a state variable."""

    name: str
    type: Type


@dataclass(frozen=True)
class StateVariable:
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


@dataclass(frozen=True)
class Memory:
    """A byte-addressed memory."""

    span: Span
    doc: str
    name: str
    address: Vector


@dataclass(frozen=True)
class Function:
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


@dataclass(frozen=True)
class OpcodeByte:
    """A byte of the opcode; `register` if its low three bits number a register."""

    value: int
    register: bool = False


@dataclass(frozen=True)
class EncodingRow:
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


@dataclass(frozen=True)
class OperandCode:
    """A row of the `operands` table.

    `width` is 8 to 128, "v", "z", "y" or None (an address only); `register` the number of a fixed register, or of the
    one that addresses memory.
    """

    name: str
    kind: str
    width: int | str | None
    register: int | None
    doc: str


@dataclass(frozen=True)
class OperandUse:
    """How the body uses an operand: as a value read, written, or only through its attributes."""

    name: str
    width: int | None
    reads: bool
    writes: bool


@dataclass(frozen=True)
class InstructionBody:
    """The semantics of an instruction for one tuple of operand widths.  `name` is a Python identifier."""

    name: str
    widths: tuple[int | None, ...]
    operands: tuple[OperandUse, ...]
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Instruction:
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


@dataclass(frozen=True)
class Step:
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


@dataclass(frozen=True)
class Handler:
    """Runs at a VM exit whose reason has `value`; `value` is None for the handler of all other reasons."""

    span: Span
    doc: str
    name: str
    value: int | None
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Predicate:
    """A named condition for all values of its parameters: a `policy` or an `invariant`."""

    span: Span
    doc: str
    name: str
    parameters: tuple[Parameter, ...]
    condition: Expr


@dataclass(frozen=True)
class Rules:
    """Named conditions checked together (VM-entry checks)."""

    span: Span
    doc: str
    name: str
    rules: tuple[Predicate, ...]


@dataclass(frozen=True)
class Abort:
    """What `raise` carries.  `guard` is the condition of the `exit` statement, for the abort that has one."""

    span: Span
    doc: str
    name: str
    type: Struct
    guard: Expr | None


@dataclass(frozen=True)
class OutputDeclaration:
    """An effect on the outside world: a console."""

    span: Span
    doc: str
    name: str
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Missing:
    """A part of the architecture that is left out; `doc` says what it is and why."""

    span: Span
    doc: str
    name: str


@dataclass(frozen=True)
class Constant:
    """A named constant."""

    span: Span
    doc: str
    name: str
    type: Type
    value: int


@dataclass
class Program:
    """A checked specification.  Dictionaries keep the order of the files."""

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

    def state_in(self, space: str) -> Iterator[StateVariable]:
        """The state variables of one space."""
        return (v for v in self.state.values() if v.space == space)
