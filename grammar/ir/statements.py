"""Statements, and where they stand in the text."""

from __future__ import annotations

from grammar.ir.expressions import Call, Expr
from grammar.record import Record
from grammar.source import Span


class SetLocal(Record):
    """Declares (`let`, `var`) or assigns a local."""

    span: Span
    name: str
    value: Expr
    declares: bool


class WriteState(Record):
    """Assigns a state variable (at `indices` if it is indexed)."""

    span: Span
    name: str
    indices: tuple[Expr, ...]
    value: Expr


class WriteMemory(Record):
    """Writes the value's width in bits, little-endian."""

    span: Span
    memory: str
    address: Expr
    value: Expr


class WriteOperand(Record):
    """Assigns the register or memory an operand stands for."""

    span: Span
    name: str
    value: Expr


class CallStatement(Record):
    """Calls a function for its effect."""

    span: Span
    call: Call


class If(Record):
    """`clause` says how it was written: `if`, `check`, `exit` or `require` (for documentation, mutation, messages)."""

    span: Span
    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...]
    clause: str = "if"


class Return(Record):
    """Leaves the function."""

    span: Span
    value: Expr | None


class Raise(Record):
    """Ends the instruction with the abort `kind`, unless an `attempt` around it catches that kind."""

    span: Span
    kind: str
    value: Expr  # a MakeStruct, or a caught struct raised again


class Catch(Record):
    """What an `attempt` does after an abort of `kind`, whose value is the local `name`."""

    kind: str
    name: str
    body: tuple[Stmt, ...]


class Attempt(Record):
    """Runs `body`; an abort of a caught kind continues in its clause."""

    span: Span
    body: tuple[Stmt, ...]
    catches: tuple[Catch, ...]


class Forget(Record):
    """Empties the cached function `function` (all its instances), or forgets results whose first keys are `keys`."""

    span: Span
    function: str
    keys: tuple[Expr, ...] = ()


class Execute(Record):
    """Fetches, decodes and executes one instruction."""

    span: Span


class Dispatch(Record):
    """Runs the handler whose reason equals `reason`; with none, the handler named `otherwise`."""

    span: Span
    reason: Expr


class Output(Record):
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
