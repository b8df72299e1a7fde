"""The family `fast`: every form that has a handler, one group for each instruction the handlers name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import z3

from checks.extract import Roots
from checks.fast import translations
from checks.fast.explain import Explainer
from checks.fast.forms import handled_forms
from checks.fast.lemmas import IDS
from checks.fast.lemmas import goals as lemma_goals
from checks.fast.paging import LEMMAS as PAGING_LEMMAS
from checks.fast.paging import Lemmas
from checks.fast.start import Start
from checks.fast.theorems import FormTheorem
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Outline, Witness
from checks.trap.operands import FUNCTIONS
from fastmodel.handlers import HANDLERS, Handler
from grammar import ir
from refmodel.encoder import Encoder

LEMMA_GROUP = "lemmas"
PAGING = "paging."
"""What groups with a lemma about the page walk begin with."""
TABLES_GROUP = "tlb"


# Lemmas about texts of the fast model alone.
NOTHING = Roots((), functions=frozenset(), has_policies=False, has_invariants=False)


@dataclass(slots=True)
class FastFamily:
    """Theorems about the fast model's handlers."""

    name: str = "fast"
    handlers: Sequence[Handler] = tuple(HANDLERS)
    _prepared: dict[int, Prepared] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each instruction, or family of instructions, that handlers name, and for lemmas.

        What the lemmas say of operands and flags, the theorems about forms take for granted.
        """
        lemmas = tuple(f"{self.name}.{name}" for name in IDS)
        yield Outline(f"{self.name}.{LEMMA_GROUP}", lemmas)
        for lemma in PAGING_LEMMAS:
            name = f"{self.name}.{PAGING}{lemma}"
            yield Outline(name, (name,))
        tables = f"{self.name}.{TABLES_GROUP}"
        yield Outline(tables, tuple(f"{tables}.{name}" for name in translations.LEMMAS), roots=NOTHING)
        for instruction, forms in self._of(program).forms.items():
            names = tuple(dict.fromkeys(one.form.instruction.name for one in forms))
            roots = Roots(names, functions=FUNCTIONS, has_policies=False, has_invariants=False)
            ids = tuple(f"{self.name}.{one.name}" for one in forms)
            yield Outline(f"{self.name}.{instruction}", ids, roots=roots)

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group; forms whose goals are not in `ids` are left out."""
        subject = group.removeprefix(f"{self.name}.")
        if subject == TABLES_GROUP:
            return Group(group, context, tuple(translations.Lemmas(Terms(context)).goals(group)))
        if subject.startswith(PAGING):
            lemma = PAGING_LEMMAS[subject.removeprefix(PAGING)]
            goal = Lemmas(program, Terms(context)).goal(group, lemma)
            return Group(group, context, (goal,), is_large=True)
        start, prepared = Start.create(program, context), self._of(program)
        goals = list(lemma_goals(self.name, start, ids)) if subject == LEMMA_GROUP else []
        named = {f"{self.name}.{one.name}": one for one in prepared.forms.get(subject, ())}
        wanted = {name: one for name, one in named.items() if ids is None or name in ids}
        goals += [_goal(name, FormTheorem(start, one), prepared) for name, one in wanted.items()]
        return Group(group, context, tuple(goals), tuple(start.terms.truth(h) for h in start.hypotheses))

    def _of(self, program: ir.Program) -> Prepared:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Prepared(program, self.handlers)
        return self._prepared[id(program)]


class Prepared:
    """What the family needs of a program, found once."""

    def __init__(self, program: ir.Program, handlers: Sequence[Handler]) -> None:
        self.program = program
        self.forms = handled_forms(program, {handler.key: handler for handler in handlers})

    @cached_property
    def encoder(self) -> Encoder:
        """Writes the instruction of a counterexample."""
        return Encoder(self.program)


def _goal(name: str, theorem: FormTheorem, prepared: Prepared) -> Goal:
    terms = theorem.start.terms
    completes = terms.disjunction(path.condition for path in theorem.paths if path.completes)
    explainer = Explainer(name, theorem, prepared)
    return Goal(
        name,
        terms.truth(theorem.conclusion()),
        tuple(terms.truth(h) for h in theorem.hypotheses() if h is not True),
        (Witness("completes", terms.truth(completes)),),
        explainer.minimise,
        explainer.explain,
    )
