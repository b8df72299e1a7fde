"""Many mutants as one program, in which free truth values choose the fault.

Each mutant has a number. Where its fault is, the woven program does what the mutant does if its *choice* is true, and
what the original does if not. So the terms of a theorem are built once for all mutants, and a solver that sees at most
one choice true finds the mutants that refute it. A choice is an `undefined` value: a symbol that is the same in all
runs, and false on the reference. Source of the idea: R. H. Untch, A. J. Offutt, M. J. Harrold, "Mutation Analysis
Using Mutant Schemata", ISSTA 1993.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import z3

from checks.mutate.operators import dropped, faults, swapped
from checks.mutate.places import Mutant, Path, Rewriter, rewritten
from checks.mutate.tables import items_named, with_items
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.memory import UnalignedAccessError
from checks.walk import nodes
from grammar import ir
from grammar.source import Span

SITE = "fault."
"""Begins the sites of choices; the number follows."""

_FALSE, _TRUE = ir.Literal(ir.BOOL, 0), ir.Literal(ir.BOOL, 1)

CANNOT_BUILD = (
    UnsupportedError,
    UnalignedAccessError,
    KeyError,
    StopIteration,
    AssertionError,
    z3.Z3Exception,
)
"""What building the terms of a program raises about which the theorems cannot be stated."""


def choice(number: int) -> ir.Expr:
    """True in the mutant of that number."""
    return ir.Undefined(ir.BOOL, _FALSE, f"{SITE}{number}")


@dataclass(slots=True)
class Weaver:
    """Weaves mutants of one program; an item with the same mutants is woven once."""

    program: ir.Program
    _known: dict[tuple[str, str, tuple[int, ...]], dict[str, Any]] = field(default_factory=dict)

    def woven(self, mutants: Mapping[int, Mutant]) -> ir.Program:
        """The program with all these mutants in it."""
        by_item: dict[tuple[str, str], dict[Mutant, int]] = defaultdict(dict)
        for number, mutant in mutants.items():
            by_item[mutant.kind, mutant.name][mutant] = number
        changed: dict[str, dict[str, Any]] = defaultdict(dict)
        for (kind, name), numbers in by_item.items():
            changed[kind] |= self._item(kind, name, numbers)
        return with_items(self.program, changed)

    def _item(self, kind: str, name: str, numbers: Mapping[Mutant, int]) -> dict[str, Any]:
        """The items of that name in the source."""
        at = (kind, name, tuple(numbers.values()))
        if at not in self._known:
            rewriter = _ManyFaults(kind, name, None, {}, numbers, self.program)
            named = items_named(self.program, kind, name)
            self._known[at] = {n: rewritten(one, rewriter) for n, one in named.items()}
        return self._known[at]


@dataclass(slots=True)
class _ManyFaults(Rewriter):
    """Puts all wanted faults into an item.

    A fault below a call that may raise or write becomes a choice between two statements, since both sides of a
    conditional expression are evaluated.
    """

    numbers: Mapping[Mutant, int]
    program: ir.Program
    _late: list[Mutant] = field(default_factory=list)
    _pure: dict[int, tuple[object, bool]] = field(default_factory=dict)

    def _is_wanted(self, span: Span, path: Path, operator: str, description: str) -> bool:  # noqa: ARG002
        """No fault is made outright."""
        return False

    def _wanted_here(self, span: Span, path: Path, operator: str, description: str) -> Mutant | None:
        one = Mutant(self.kind, self.name, span, path, operator, description)
        return one if one in self.numbers else None

    def predicate(self, item: ir.Predicate) -> ir.Expr:
        inner = cast(ir.Expr, self._inside(item.condition, item.span, ()))
        whole = self._wanted_here(item.span, (), "drop conjunct", item.name)
        return inner if whole is None else self._either(whole, _TRUE, inner)

    def keys(self, item: ir.Function) -> tuple[ir.Expr, ...]:
        """As they are: terms remember nothing."""
        return item.keys

    def _either(self, mutant: Mutant, then: ir.Expr, otherwise: ir.Expr) -> ir.Expr:
        return ir.Conditional(then.type, choice(self.numbers[mutant]), then, otherwise)

    def body(self, body: Sequence[ir.Stmt]) -> tuple[ir.Stmt, ...]:
        return tuple(self._woven(body))

    def _woven(self, body: Sequence[ir.Stmt]) -> Iterator[ir.Stmt]:
        """The statements; one that a mutant moves before its neighbour stands there too, and only one is done."""
        earlier = [self._moved(first, second) for first, second in pairwise(body)]
        for i, statement in enumerate(body):
            following = earlier[i] if i < len(earlier) else None
            moved = earlier[i - 1] if i else None
            if following is not None:
                yield self._if(following, (body[i + 1],), (), statement.span)
            done = tuple(self._statement(statement))
            yield from done if moved is None else (self._if(moved, (), done, statement.span),)

    def _moved(self, first: ir.Stmt, second: ir.Stmt) -> Mutant | None:
        """The mutant in which the second statement comes before the first."""
        what = swapped(first, second)
        return None if what is None else self._wanted_here(second.span, ("order",), *what)

    def _if(
        self, mutant: Mutant, then: tuple[ir.Stmt, ...], otherwise: tuple[ir.Stmt, ...], span: Span
    ) -> ir.If:
        return ir.If(span, choice(self.numbers[mutant]), then, otherwise)

    def _statement(self, statement: ir.Stmt) -> Iterator[ir.Stmt]:
        late, self._late = self._late, []
        [woven] = Rewriter._statement(self, statement)  # noqa: SLF001 - what it would do with no mutant wanted
        mine, self._late = self._late, late
        what = dropped(statement)
        gone = None if what is None else self._wanted_here(statement.span, (), *what)
        result: tuple[ir.Stmt, ...] = (woven,)
        if gone is not None:
            result = (self._without(gone, statement, woven),)
        for mutant in mine:
            result = self._instead(mutant, statement, result)
        yield from result

    def _without(self, mutant: Mutant, statement: ir.Stmt, woven: ir.Stmt) -> ir.Stmt:
        """The statement, but not in this mutant; a condition stays what it was written as."""
        if isinstance(woven, ir.If) and not woven.otherwise and self._is_pure(woven.condition):
            return replace(woven, condition=self._either(mutant, _FALSE, woven.condition))
        return self._if(mutant, (), (woven,), statement.span)

    def _instead(self, mutant: Mutant, statement: ir.Stmt, woven: tuple[ir.Stmt, ...]) -> tuple[ir.Stmt, ...]:
        """In this mutant the faulty statement.  What it declares is declared before the choice."""
        faulty = tuple(Rewriter(self.kind, self.name, mutant, {}).body((statement,)))
        both = self._if(mutant, faulty, woven, statement.span)
        if not (isinstance(statement, ir.SetLocal) and statement.declares):
            return (both,)
        unknown = ir.Undefined(statement.value.type, _FALSE, f"local.{statement.name}")
        return replace(statement, value=unknown), both

    def _expression(self, node: ir.Expr, span: Span, path: Path) -> ir.Expr:
        found = [
            (mutant, replacement)
            for operator, description, replacement in faults(node)
            if (mutant := self._wanted_here(span, path, operator, description)) is not None
        ]
        woven = Rewriter._expression(self, node, span, path)  # noqa: SLF001 - no mutant is wanted there
        for mutant, replacement in found:
            if self._is_pure(node):
                woven = self._either(mutant, replacement, woven)
            else:
                self._late.append(mutant)
        return woven

    def _is_pure(self, node: ir.Expr) -> bool:
        """Whether nothing in an expression can raise or write."""
        if id(node) not in self._pure:
            self._pure[id(node)] = (node, not any(map(self._has_effects, nodes(node))))
        return self._pure[id(node)][1]

    def _has_effects(self, node: object) -> bool:
        if isinstance(node, ir.Call):
            function = self.program.functions[node.function]
            return function.raises or function.writes
        return isinstance(node, ir.OperandRead)
