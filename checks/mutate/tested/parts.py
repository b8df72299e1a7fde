"""What a mutant changes in the reference, and which of its functions a test calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import CodeType, FunctionType
from typing import Any, cast

from grammar import ir
from refmodel.generate.module import body_name
from refmodel.model import Model

_TABLES = ("functions", "instructions", "policies", "invariants", "rules")
"""The tables of a program whose items become functions of the reference, and that mutants change."""


def changed_part(program: ir.Program, other: ir.Program) -> ir.Program:
    """What the other program has otherwise, and of the rest only what no function is made from."""
    tables = {
        table: {n: one for n, one in getattr(other, table).items() if one is not getattr(program, table)[n]}
        for table in _TABLES
    }
    return replace(other, **cast(Any, tables))


def names_of(part: ir.Program) -> frozenset[str]:
    """The names of the functions that the reference has for a part."""
    bodies = (body for instruction in part.instructions.values() for body in instruction.bodies)
    return frozenset(
        [
            *part.functions,
            *map(body_name, bodies),
            *(f"policy_{name}" for name in part.policies),
            *(f"invariant_{name}" for name in part.invariants),
            *(f"rule_{g.name}_{rule.name}" for g in part.rules.values() for rule in g.rules),
        ]
    )


class Reached:
    """Notes which functions of a model are called, each the first time only: what follows costs nothing."""

    def __init__(self, model: Model) -> None:
        functions = {n: f for n, f in model.namespace.items() if isinstance(f, FunctionType)}
        self._functions = {n: f for n, f in functions.items() if f.__globals__ is model.namespace}
        self._space = model.namespace
        self._markers = _markers(self._functions)

    @contextmanager
    def noted(self) -> Iterator[set[str]]:
        """The names of the functions that are called meanwhile."""
        found: set[str] = set()
        original = {name: function.__code__ for name, function in self._functions.items()}

        def call(name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
            found.add(name)
            self._functions[name].__code__ = original[name]
            return self._functions[name](*arguments, **named)

        self._space[_CALL] = call
        for name, function in self._functions.items():
            function.__code__ = self._markers[name]
        try:
            yield found
        finally:
            for name, function in self._functions.items():
                function.__code__ = original[name]


_CALL = "__first_call"


def _markers(functions: Mapping[str, FunctionType]) -> dict[str, CodeType]:
    """By function the code that says that it is called."""
    text = "\n".join(
        f"def {name}(*arguments, **named): return {_CALL}({name!r}, arguments, named)" for name in functions
    )
    made: dict[str, Any] = {}
    exec(text, made)  # nothing but names of functions
    return {name: made[name].__code__ for name in functions}
