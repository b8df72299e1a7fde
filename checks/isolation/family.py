"""The family `isolation`: a group for each step, one for the walk lemmas."""

from __future__ import annotations

from collections.abc import Iterable

import z3

from checks.isolation import steps
from checks.theorem import Group, Outline
from grammar import ir


class Isolation:
    """EPT isolation."""

    name = "isolation"

    def outlines(self, program: ir.Program) -> Iterable[Outline]:
        """A group for each step."""
        goals = steps.goal_names(program)
        for step in program.steps:
            group = f"{self.name}.{step}"
            yield Outline(group, tuple(f"{group}.{goal}" for goal in goals))

    def build(self, program: ir.Program, group: str, context: z3.Context) -> Group:
        """The terms of the group."""
        subject = group.removeprefix(f"{self.name}.")
        return steps.step_group(program, program.steps[subject], group, context)
