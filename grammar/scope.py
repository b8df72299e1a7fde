"""What is in sight inside one body: locals, integers, operands, and what the body was seen to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from grammar import ir
from grammar.source import Span


@dataclass(frozen=True, slots=True)
class LocalName:
    """A local; `type` is None after an error in its declaration, so that its uses are not reported again."""

    type: ir.Type | None
    mutable: bool
    span: Span


@dataclass(slots=True)
class OperandName:
    """An operand of the instruction whose body is checked.  `width` is None for an address or index only."""

    width: int | None
    span: Span
    reads: bool = False
    writes: bool = False


@dataclass(slots=True)
class Scope:
    """Names in sight, and the effects found so far (`raises`, `writes`)."""

    integers: dict[str, int] = field(default_factory=dict)
    literals: dict[str, ir.Literal] = field(default_factory=dict)
    locals: dict[str, LocalName] = field(default_factory=dict)
    operands: dict[str, OperandName] = field(default_factory=dict)
    in_instruction: bool = False
    result: ir.Type | None = None
    guarded: int = 0
    raises: bool = False
    writes: bool = False

    @contextmanager
    def block(self) -> Iterator[None]:
        """Names declared inside are forgotten at the end."""
        saved = dict(self.locals)
        try:
            yield
        finally:
            self.locals = saved

    @contextmanager
    def conditional(self) -> Iterator[None]:
        """Inside, an expression may not be evaluated, so it may have no effects."""
        self.guarded += 1
        try:
            yield
        finally:
            self.guarded -= 1
