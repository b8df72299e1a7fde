"""Finds the places of a specification where an operator applies, and makes the mutants.

A place is one of the source text: where a loop was unrolled, or a function checked for several widths, all copies in
the IR change together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, cast

from checks.mutate.operators import dropped, faults, swapped
from checks.mutate.tables import TABLES, Item, items, items_named, source_name, with_items
from checks.mutate.text import shown
from grammar import ir
from grammar.source import Span

Path: TypeAlias = tuple[str | int, ...]

KEYS = "keys"
"""Begins the paths of what a function remembers its results by, and a statement forgets."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: in the item `name` of the program's table `kind`, at a path inside the statement at `span`."""

    kind: str
    name: str
    span: Span
    path: Path
    operator: str
    description: str = field(compare=False)

    @property
    def id(self) -> str:
        """Short, and the same as long as the place's text and line are: `disclaim:drop-write-3f2a`."""
        text = repr((self.kind, self.path, self.operator, self.description, self.span.line, self.span.column))
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        return f"{self.name}:{self.operator.replace(' ', '-')}-{digest}"

    @property
    def meaning(self) -> tuple[str, str, str]:
        """What it does wherever its line now is: by this it is found in the list of equivalent mutants."""
        return self.name, self.operator, self.description


def mutants(program: ir.Program) -> dict[Mutant, None]:
    """All mutants, in the order of the specification."""
    found: dict[Mutant, None] = {}
    mirrored = _mirrored(program)
    for table in TABLES:
        for name, item in items(program, table).items():
            if table == "functions" and name in mirrored:
                continue
            rewritten(item, Rewriter(table, source_name(name, item), None, found))
    return found


def _mirrored(program: ir.Program) -> frozenset[str]:
    """The functions that have the bodies of steps and handlers."""
    return frozenset({*program.steps, *(f"handle_{name}" for name in program.handlers)})


def mutated(program: ir.Program, mutant: Mutant) -> ir.Program:
    """The program with the fault."""
    rewriter = Rewriter(mutant.kind, mutant.name, mutant, {})
    named = items_named(program, mutant.kind, mutant.name)
    return with_items(program, {mutant.kind: {n: rewritten(item, rewriter) for n, item in named.items()}})


def rewritten(item: Item, rewriter: Rewriter) -> Item:
    """An item of any table, with what the rewriter makes of its bodies."""
    if isinstance(item, ir.Predicate):
        return replace(item, condition=rewriter.predicate(item))
    if isinstance(item, ir.StateVariable):
        return rewriter.variable(item)
    if isinstance(item, ir.Instruction):
        return replace(item, bodies=tuple(replace(b, body=rewriter.body(b.body)) for b in item.bodies))
    if isinstance(item, ir.Function):
        return replace(item, body=rewriter.body(item.body), keys=rewriter.keys(item))
    return replace(item, body=rewriter.body(item.body))


@dataclass(slots=True)
class Rewriter:
    """Walks an item: notes all faults in `found`, and makes the wanted one."""

    kind: str
    name: str
    wanted: Mutant | None
    found: dict[Mutant, None]

    def _is_wanted(self, span: Span, path: Path, operator: str, description: str) -> bool:
        one = Mutant(self.kind, self.name, span, path, operator, description)
        if self.wanted is None:
            self.found.setdefault(one)
        return one == self.wanted

    def predicate(self, item: ir.Predicate) -> ir.Expr:
        """What becomes of a policy, invariant or rule."""
        if self._is_wanted(item.span, (), "drop conjunct", item.name):
            return ir.Literal(ir.BOOL, 1)
        return cast(ir.Expr, self._inside(item.condition, item.span, ()))

    def variable(self, item: ir.StateVariable) -> ir.StateVariable:
        """What becomes of the clauses that say whose a variable is; `owner guest when` says what is seen, too."""
        owner = self._inside(item.owner, item.span, ("owner",))

        def clause(name: str, old: ir.Expr | None) -> ir.Expr | None:
            if isinstance(old, ir.Conditional) and old.condition == item.owner:
                return replace(old, condition=owner)
            return cast("ir.Expr | None", self._inside(old, item.span, (name,)))

        return replace(item, owner=owner, view=clause("view", item.view), host=clause("host", item.host))

    def keys(self, item: ir.Function) -> tuple[ir.Expr, ...]:
        """What becomes of the keys under which a function's results are remembered."""
        return tuple(
            cast(ir.Expr, self._inside(key, item.span, (KEYS, i)))
            for i, key in enumerate(item.keys)
            if not self._is_wanted(
                item.span, (KEYS, i), "omit key", f"{item.source} whatever {shown(key)} is"
            )
        )

    def body(self, body: Sequence[ir.Stmt]) -> tuple[ir.Stmt, ...]:
        """What becomes of a block."""
        return self._reordered([new for old in body for new in self._statement(old)])

    def _reordered(self, body: list[ir.Stmt]) -> tuple[ir.Stmt, ...]:
        i = 0
        while i < len(body) - 1:
            what = swapped(body[i], body[i + 1])
            if what is not None and self._is_wanted(body[i + 1].span, ("order",), *what):
                body[i], body[i + 1] = body[i + 1], body[i]
                i += 1
            i += 1
        return tuple(body)

    def _statement(self, statement: ir.Stmt) -> Iterator[ir.Stmt]:
        what = dropped(statement)
        if what is not None and self._is_wanted(statement.span, (), *what):
            return
        changes = {
            f.name: self._inside(getattr(statement, f.name), statement.span, (f.name,))
            for f in fields(statement)
            if f.name not in ("span", "type")
        }
        yield replace(statement, **cast(Any, changes))

    def _inside(self, value: Any, span: Span, path: Path) -> Any:
        """What stands at a path inside a statement."""
        if isinstance(value, tuple):
            if value and isinstance(value[0], ir.Stmt):
                return self.body(value)
            return tuple(self._inside(one, span, (*path, i)) for i, one in enumerate(value))
        if isinstance(value, ir.Catch):
            return replace(value, body=self.body(value.body))
        if isinstance(value, ir.Expr):
            return self._expression(value, span, path)
        return value

    def _expression(self, node: ir.Expr, span: Span, path: Path) -> ir.Expr:
        for operator, description, replacement in faults(node):
            if self._is_wanted(span, path, operator, description):
                return replacement
        changes = {
            f.name: self._inside(getattr(node, f.name), span, (*path, f.name))
            for f in fields(node)
            if f.name != "type"
        }
        return replace(node, **cast(Any, changes))
