"""The family `totality`: every VM exit has a handler, which returns and concerns the current guest alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import z3

from checks.emulation.runs import RUN_ONE
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Outline
from checks.totality.exits import Exiting, exit_goal
from checks.totality.handlers import handler_goal
from grammar import ir

EXITS, HANDLERS = "totality.exits", "totality.handlers"
"""The groups."""


@dataclass(slots=True)
class TotalityFamily:
    """Theorems about all that can make a guest exit, and about each handler."""

    name: str = "totality"
    _prepared: dict[int, Exiting] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """Two groups, if the program has a VMM."""
        if RUN_ONE in program.functions:
            for group, names in ((EXITS, self._of(program).functions), (HANDLERS, program.handlers)):
                yield Outline(group, tuple(f"{group}.{name}" for name in names))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals: those of `ids`, or all."""
        exiting, terms = self._of(program), Terms(context)
        goals: dict[str, Callable[[], Goal]] = {}
        for function in exiting.functions.values() if group == EXITS else ():
            name = f"{group}.{function.name}"
            goals[name] = partial(exit_goal, exiting, function, name, terms)
        for handler in program.handlers.values() if group == HANDLERS else ():
            name = f"{group}.{handler.name}"
            goals[name] = partial(handler_goal, exiting, handler, name, terms)
        wanted = (goal() for name, goal in goals.items() if ids is None or name in ids)
        return Group(group, context, tuple(wanted))

    def _of(self, program: ir.Program) -> Exiting:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Exiting(program)
        return self._prepared[id(program)]
