"""The family `fast`: every form that has a handler, one group for each instruction the handlers name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import z3

from checks.fast.forms import HandledForm, handled_forms
from checks.fast.start import Start
from checks.fast.theorems import FormTheorem
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Outline, Witness
from fastmodel.handlers import HANDLERS, Handler
from grammar import ir


@dataclass(slots=True)
class FastFamily:
    """Theorems about the fast model's handlers."""

    name: str = "fast"
    handlers: Sequence[Handler] = tuple(HANDLERS)
    _known: dict[int, dict[str, list[HandledForm]]] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each instruction, or family of instructions, that handlers name."""
        for instruction, forms in self._forms(program).items():
            yield Outline(f"{self.name}.{instruction}", tuple(f"{self.name}.{one.form.name}" for one in forms))

    def build(self, program: ir.Program, group: str, context: z3.Context) -> Group:
        """The goals of one group."""
        start = Start.create(program, context)
        forms = self._forms(program)[group.removeprefix(f"{self.name}.")]
        goals = [_goal(f"{self.name}.{one.form.name}", FormTheorem(start, one)) for one in forms]
        return Group(group, context, tuple(goals), tuple(start.terms.truth(h) for h in start.hypotheses))

    def _forms(self, program: ir.Program) -> dict[str, list[HandledForm]]:
        if id(program) not in self._known:
            by_key = {handler.key: handler for handler in self.handlers}
            self._known[id(program)] = handled_forms(program, by_key)
        return self._known[id(program)]


def _goal(name: str, theorem: FormTheorem) -> Goal:
    terms: Terms = theorem.start.terms
    completes = terms.disjunction(path.condition for path in theorem.paths if path.completes)
    return Goal(
        name,
        terms.truth(theorem.conclusion()),
        tuple(terms.truth(h) for h in theorem.hypotheses() if h is not True),
        (Witness("completes", terms.truth(completes)),),
    )


__all__ = ["FastFamily", "partial"]
