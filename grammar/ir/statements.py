"""Statements, and where they stand in the text."""

from __future__ import annotations

from dataclasses import dataclass

from grammar.ir.expressions import Call, Expr
from grammar.source import Span


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
