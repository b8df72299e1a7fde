"""The choices of mutants in terms: which there are, and what is left of a term where one is made.

A mutant is a number; its choice is the truth value behind which `checks.mutate.weave` put its fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3
from z3 import z3core

from checks.mutate.weave import SITE

_NAME = re.compile(rf"undefined!{re.escape(SITE)}(\d+)")


def choice(context: z3.Context, number: int) -> z3.BoolRef:
    """The choice of a mutant as a term."""
    return z3.Bool(f"undefined!{SITE}{number}", context)


@dataclass(slots=True)
class Choices:
    """Finds the choices in terms of one context; each term is looked through once."""

    context: z3.Context
    _known: dict[int, int] = field(default_factory=dict)  # by a term's id, mutants as a set of bits
    _kept: list[z3.AstRef] = field(default_factory=list)  # so that ids stay those of the same terms

    def met(self, terms: Iterable[z3.AstRef]) -> set[int]:
        """The mutants whose choices occur."""
        found = 0
        for term in terms:
            found |= self._bits(term)
        return set(_numbers(found))

    def is_met(self, number: int, term: z3.AstRef) -> bool:
        """Whether the choice of a mutant occurs."""
        return bool(self._bits(term) >> number & 1)

    def _bits(self, root: z3.AstRef) -> int:
        ref = self.context.ref()
        if z3core.Z3_get_ast_id(ref, root.as_ast()) not in self._known:
            self._kept.append(root)
            self._look_through(ref, root.as_ast())
        return self._known[z3core.Z3_get_ast_id(ref, root.as_ast())]

    def _look_through(self, ref: z3core.ContextObj, root: z3core.Ast) -> None:
        """Without recursion, since terms are deep: what has parts is left waiting until they are known."""
        waiting = [root]
        while waiting:
            term = waiting[-1]
            identity = z3core.Z3_get_ast_id(ref, term)
            parts = () if identity in self._known else _parts(ref, term)
            unknown = [one for one in parts if z3core.Z3_get_ast_id(ref, one) not in self._known]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            if identity not in self._known:
                found = 0 if parts else _own(ref, term)
                for one in parts:
                    found |= self._known[z3core.Z3_get_ast_id(ref, one)]
                self._known[identity] = found


@dataclass(slots=True)
class Chooser:
    """Makes choices in terms: that of one mutant, or of none, among those that occur."""

    context: z3.Context
    numbers: Sequence[int]
    _places: dict[int, int] = field(init=False)
    _choices: list[z3.BoolRef] = field(init=False)
    _from: Any = field(init=False)
    _to: Any = field(init=False)
    _truths: tuple[z3.BoolRef, z3.BoolRef] = field(init=False)

    def __post_init__(self) -> None:
        """Arrays for z3, which are made once: there may be thousands of choices, and hundreds of terms."""
        self._truths = z3.BoolVal(False, self.context), z3.BoolVal(True, self.context)
        self._places = {number: place for place, number in enumerate(self.numbers)}
        self._choices = [choice(self.context, number) for number in self.numbers]
        size = len(self._choices)
        self._from = (z3core.Ast * size)(*(one.as_ast() for one in self._choices))
        self._to = (z3core.Ast * size)(*(self._truths[0].as_ast() for _ in self._choices))

    def made(self, term: z3.BoolRef, number: int | None) -> z3.BoolRef:
        """The term in the mutant of that number, or in the original."""
        if number is not None:
            self._to[self._places[number]] = self._truths[1].as_ast()
        try:
            size = len(self._choices)
            found = z3core.Z3_substitute(self.context.ref(), term.as_ast(), size, self._from, self._to)
            return z3.BoolRef(found, self.context)
        finally:
            if number is not None:
                self._to[self._places[number]] = self._truths[0].as_ast()


def _parts(ref: z3core.ContextObj, term: z3core.Ast) -> tuple[z3core.Ast, ...]:
    kind = z3core.Z3_get_ast_kind(ref, term)
    if kind == z3.Z3_QUANTIFIER_AST:
        return (z3core.Z3_get_quantifier_body(ref, term),)
    if kind != z3.Z3_APP_AST:
        return ()
    return tuple(z3core.Z3_get_app_arg(ref, term, i) for i in range(z3core.Z3_get_app_num_args(ref, term)))


def _own(ref: z3core.ContextObj, term: z3core.Ast) -> int:
    """The bit of a term without parts, if it is a choice."""
    if z3core.Z3_get_ast_kind(ref, term) != z3.Z3_APP_AST:
        return 0
    symbol = z3core.Z3_get_decl_name(ref, z3core.Z3_get_app_decl(ref, term))
    if z3core.Z3_get_symbol_kind(ref, symbol) != z3.Z3_STRING_SYMBOL:
        return 0
    found = _NAME.fullmatch(z3core.Z3_get_symbol_string(ref, symbol))
    return 1 << int(found[1]) if found else 0


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def conjuncts(term: z3.BoolRef) -> Iterator[z3.BoolRef]:
    """The terms of which it is the conjunction."""
    if z3.is_and(term):
        for one in term.children():
            yield from conjuncts(one)
        return
    if z3.is_not(term):
        inner = term.arg(0)
        if z3.is_not(inner):
            yield from conjuncts(inner.arg(0))
            return
        if z3.is_or(inner):
            for one in inner.children():
                yield from conjuncts(z3.Not(one))
            return
        if z3.is_implies(inner):
            yield from conjuncts(inner.arg(0))
            yield from conjuncts(z3.Not(inner.arg(1)))
            return
    yield term
