"""The family `trap`: theorems C, I and E for every form of every instruction, one group for each file of the spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import Vector
from checks.symbolic.values import equal
from checks.theorem import Goal, Group, Outline
from checks.trap.compare import Comparer
from checks.trap.explain import FormExplainer
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.operands import OperandSymbols, SymbolicOperands
from checks.trap.ownership import Ownership
from checks.trap.runs import Act, Settings
from checks.trap.theorems import FormProof, Theorem
from grammar import ir
from refmodel.encoder import Encoder

LEMMA = "translation"


@dataclass(slots=True)
class TrapFamily:
    """Theorems about instructions, and about the delivery of events."""

    name: str = "trap"
    _prepared: dict[int, Prepared] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each file of instructions, since a z3 context of its own for each instruction costs more.

        All of them rest on the lemma that translation depends on nothing but what the guest sees.
        """
        yield Outline(f"{self.name}.{LEMMA}", tuple(_lemma_ids(self.name)))
        for group, forms in self._of(program).groups.items():
            ids = [one for form in forms for one in self._ids(form)]
            yield Outline(f"{self.name}.{group}", tuple(ids), tuple(_lemma_ids(self.name)))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group: of the forms that `ids` belong to, or all."""
        prepared = self._of(program)
        settings = Settings.create(prepared.ownership, context)
        comparer = Comparer(prepared.ownership, settings.terms)
        subject = group.removeprefix(f"{self.name}.")
        goals = list(_lemma_goals(self.name, settings, prepared.ownership)) if subject == LEMMA else []
        for form in prepared.groups.get(subject, ()):
            if ids is not None and ids.isdisjoint(self._ids(form)):
                continue
            goals += _form_goals(f"{self.name}.{form.name}", form, settings, comparer, prepared)
        promises = tuple(settings.terms.truth(condition) for _, condition in settings.promises())
        return Group(group, context, tuple(goals), promises)

    def _ids(self, form: Form) -> list[str]:
        return [f"{self.name}.{form.name}.{theorem}" for theorem in Theorem]

    def _of(self, program: ir.Program) -> Prepared:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Prepared(program)
        return self._prepared[id(program)]


class Prepared:
    """What the family needs of a program, found once."""

    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.ownership = Ownership(program)
        self.groups: dict[str, list[Form]] = {}
        for name, forms in forms_by_instruction(program).items():
            file = PurePath(program.instructions[name].span.file).stem
            self.groups.setdefault(file, []).extend(forms)

    @cached_property
    def encoder(self) -> Encoder:
        """Writes the instruction of a counterexample."""
        return Encoder(self.program)


def _lemma_ids(family: str) -> list[str]:
    return [f"{family}.{LEMMA}.{theorem}" for theorem in (Theorem.CONFIDENTIALITY, Theorem.EQUIVALENCE)]


def _lemma_goals(family: str, settings: Settings, ownership: Ownership) -> Iterator[Goal]:
    """What decides on a page fault is the same in both runs, and on the bare machine."""
    terms = settings.terms
    rows = list(zip(ownership.all_inputs(), settings.translation_inputs(ownership), strict=True))
    for side, name in enumerate(_lemma_ids(family), start=1):
        same = terms.conjunction(equal(terms, row[0], row[side], inp.type) for inp, row in rows)
        yield Goal(name, terms.truth(same))


def _form_goals(
    name: str, form: Form, settings: Settings, comparer: Comparer, prepared: Prepared
) -> Iterator[Goal]:
    symbols = OperandSymbols(settings.terms, form)
    explainer = FormExplainer(name, settings, symbols, prepared)
    proof = FormProof.of(settings, comparer, act_of(form, symbols), symbols.hypotheses())
    yield from proof.goals(name, explainer)


def act_of(form: Form, symbols: OperandSymbols) -> Act:
    """What a run of a form does: the body, after NEXT_RIP was set as `execute` sets it."""

    def act(evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        evaluator.operands = SymbolicOperands(evaluator, symbols)
        rip = cast(Vector, cursor.state.get("RIP"))
        cursor.state.set("NEXT_RIP", evaluator.terms.arithmetic("+", rip, symbols.length, 64))
        evaluator.run(form.body.body, cursor, exits)

    return act
