"""The family `isolation`: a group for each step, and the groups about translation and about who writes what."""

from __future__ import annotations

from collections.abc import Iterable

import z3

from checks.isolation import steps, structure, walks
from checks.isolation.world import World
from checks.theorem import Group, Outline
from grammar import ir


class Isolation:
    """EPT isolation."""

    name = "isolation"

    def outlines(self, program: ir.Program) -> Iterable[Outline]:
        """All groups, those of the steps first."""
        subjects = {step: steps.goal_names(program) for step in program.steps}
        subjects |= {subject: goals for subject, (_, goals) in walks.PROOFS.items()}
        subjects[structure.SUBJECT] = structure.goal_names(program)
        for subject, goals in subjects.items():
            group = f"{self.name}.{subject}"
            yield Outline(group, tuple(f"{group}.{goal}" for goal in goals))

    def build(self, program: ir.Program, group: str, context: z3.Context) -> Group:
        """The terms of the group."""
        subject = group.removeprefix(f"{self.name}.")
        if subject == structure.SUBJECT:
            return structure.structure_group(program, group, context)
        if subject in walks.PROOFS:
            return walks.PROOFS[subject][0](World(program, context), group)
        return steps.step_group(program, program.steps[subject], group, context)
