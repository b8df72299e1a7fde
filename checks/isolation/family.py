"""The family `isolation`: a group for each step, and the groups about translation and about who writes what."""

from __future__ import annotations

from collections.abc import Iterable

import z3

from checks.extract import Roots
from checks.isolation import devices, rights, steps, structure, walks
from checks.isolation.patterns import Patterns, find_patterns
from checks.isolation.world import World
from checks.theorem import Group, Outline
from grammar import ir

_PROOFS = {**walks.PROOFS, **rights.PROOFS, **devices.PROOFS}


class Isolation:
    """Isolation of guests, and of the devices they have."""

    name = "isolation"

    def __init__(self, patterns: Patterns | None = None) -> None:
        """`patterns` are those of all programs that will be given, if they are known."""
        self._patterns_of_all = patterns
        self._known: dict[tuple[int, int], tuple[ir.Program, Patterns]] = {}

    def outlines(self, program: ir.Program) -> Iterable[Outline]:
        """All groups, those of the steps first."""
        for step in program.steps:
            roots = Roots(steps=(step,), functions=steps.FUNCTIONS, has_policies=False)
            yield self._outline(step, steps.goal_names(program), roots)
        for subject, (_, goals) in _PROOFS.items():
            yield self._outline(subject, goals)
        yield self._outline(structure.SUBJECT, structure.goal_names(program))

    def _outline(self, subject: str, goals: Iterable[str], roots: Roots | None = None) -> Outline:
        group = f"{self.name}.{subject}"
        return Outline(group, tuple(f"{group}.{goal}" for goal in goals), roots=roots)

    def build(
        self,
        program: ir.Program,
        group: str,
        context: z3.Context,
        ids: frozenset[str] | None = None,  # noqa: ARG002 - goals share most of their terms: all are built
    ) -> Group:
        """The terms of the group."""
        subject = group.removeprefix(f"{self.name}.")
        if subject == structure.SUBJECT:
            return structure.structure_group(program, group, context)
        world, patterns = World(program, context), self._patterns(program)
        if subject in _PROOFS:
            return _PROOFS[subject][0](world, patterns, group)
        return steps.step_group(world, patterns, program.steps[subject], group)

    def _patterns(self, program: ir.Program) -> Patterns:
        """Those of the program, found once for all groups."""
        if self._patterns_of_all is not None:
            return self._patterns_of_all
        at = (id(program.invariants), id(program.functions))
        if at not in self._known:
            self._known[at] = (program, find_patterns(program))
        return self._known[at][1]
