"""The family `host_state`: every guest can be entered, keeps the policy, and finds its own registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import z3

from checks.host_state.built import Built
from checks.host_state.cycle import FUNCTIONS, CycleGoals
from checks.host_state.handlers import HandlerGoals
from checks.host_state.registers import register_group, register_ids
from checks.host_state.start import GROUP, start_group, start_ids
from checks.theorem import Group, Outline
from grammar import ir


@dataclass(slots=True)
class HostStateFamily:
    """Theorems about VM entry, and about what leads to it."""

    name: str = "host_state"
    _prepared: dict[int, Prepared] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """The groups, if the program has a VMM."""
        ids = start_ids(program)
        if ids:
            yield Outline(GROUP, ids)
            prepared = self._of(program)
            every = (prepared.handlers.ids(), prepared.cycle.ids(), register_ids(program))
            yield from (Outline(group, own) for ids in every for group, own in ids.items())

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group: those of `ids`, or all."""
        if group == GROUP:
            return start_group(program, context)
        prepared = self._of(program)
        if group in register_ids(program):
            return register_group(program, group, context, prepared.built, ids)
        if group in FUNCTIONS:
            return prepared.cycle.build(group, context, prepared.built, ids)
        return prepared.handlers.build(group, context, prepared.built, ids)

    def _of(self, program: ir.Program) -> Prepared:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Prepared(program)
        return self._prepared[id(program)]


class Prepared:
    """What the family needs of a program, found once."""

    def __init__(self, program: ir.Program) -> None:
        self.built = Built.of(program)
        self.handlers = HandlerGoals(program)
        self.cycle = CycleGoals(program)
