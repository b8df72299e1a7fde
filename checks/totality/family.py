"""The family `totality`: every VM exit has a handler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import z3

from checks.emulation.runs import RUN_ONE
from checks.symbolic.terms import Terms
from checks.theorem import Group, Outline
from checks.totality.exits import Exiting, exit_goal
from grammar import ir


@dataclass(slots=True)
class TotalityFamily:
    """Theorems about all that can make a guest exit."""

    name: str = "totality"
    _prepared: dict[int, Exiting] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group, if the program has a VMM."""
        if RUN_ONE in program.functions:
            group = f"{self.name}.exits"
            yield Outline(group, tuple(f"{group}.{name}" for name in self._of(program).functions))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals: those of `ids`, or all."""
        exiting, terms = self._of(program), Terms(context)
        wanted = {f"{group}.{name}": function for name, function in exiting.functions.items()}
        return Group(
            group,
            context,
            tuple(
                exit_goal(exiting, function, name, terms)
                for name, function in wanted.items()
                if ids is None or name in ids
            ),
        )

    def _of(self, program: ir.Program) -> Exiting:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Exiting(program)
        return self._prepared[id(program)]
