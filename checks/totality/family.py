"""The family `totality`: every VM exit has a handler, which returns and concerns the current guest alone; and a guest
does not notice interrupts of the machine. The VMM enters the guest whose turn it is, and ends the current one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import z3

from checks.emulation.runs import RUN_ONE
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Outline
from checks.totality.arrivals import arrival_goal
from checks.totality.endings import ending_goal, endings
from checks.totality.entries import ENTERING, entry_goal
from checks.totality.exits import ARRIVING, Exiting, exit_goal
from checks.totality.handlers import handler_goal
from checks.totality.ignored import TYPES, ignored_goal
from checks.totality.memory import WRITING, memory_goal
from grammar import ir

EXITS, HANDLERS, ARRIVALS, IGNORED, ENTRIES, ENDINGS, UNWRITTEN = (
    f"totality.{one}" for one in ("exits", "handlers", "arrivals", "ignored", "entries", "endings", "memory")
)
"""The groups."""


@dataclass(slots=True)
class TotalityFamily:
    """Theorems about what makes a guest exit, each handler, interrupts that arrive, the way back, and the end."""

    name: str = "totality"
    _prepared: dict[int, Exiting] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """The groups, if the program has a VMM."""
        if RUN_ONE in program.functions:
            for group, names in self._subjects(program).items():
                yield Outline(group, tuple(f"{group}.{name}" for name in names))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals: those of `ids`, or all."""
        exiting, terms = self._of(program), Terms(context)
        subjects = {f"{group}.{name}": subject for name, subject in self._subjects(program)[group].items()}
        wanted = {name: one for name, one in subjects.items() if ids is None or name in ids}
        goals = (_MAKERS[group](exiting, subject, name, terms) for name, subject in wanted.items())
        return Group(group, context, tuple(goals))

    def _subjects(self, program: ir.Program) -> dict[str, Mapping[str, object]]:
        """What there are goals about, by group and name."""
        functions = program.functions
        arriving = {name: functions[name] for name in ARRIVING if name in functions}
        return {
            EXITS: self._of(program).functions,
            HANDLERS: program.handlers,
            ARRIVALS: arriving,
            IGNORED: {name: program.handlers[name] for name in TYPES if name in program.handlers},
            ENTRIES: {name: functions[name] for name in ENTERING if name in functions},
            ENDINGS: endings(program),
            UNWRITTEN: {name: functions[name] for name in WRITING if name in functions},
        }

    def _of(self, program: ir.Program) -> Exiting:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Exiting(program)
        return self._prepared[id(program)]


_MAKERS: dict[str, Callable[..., Goal]] = {
    EXITS: exit_goal,
    HANDLERS: handler_goal,
    ARRIVALS: arrival_goal,
    IGNORED: ignored_goal,
    ENTRIES: entry_goal,
    ENDINGS: ending_goal,
    UNWRITTEN: memory_goal,
}
