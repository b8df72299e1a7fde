"""The family `trap`: theorems C, I and E for every form of every instruction, one group for each block of the spec.

Other families may add goals about the same forms, made from the same terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import z3

from checks.extract import Roots
from checks.symbolic.terms import AbstractTerms
from checks.theorem import Goal, Group, Outline
from checks.trap.compare import Comparer
from checks.trap.contract import LOADS, STORES
from checks.trap.events import event_functions, event_goals
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.lemmas import lemma_goals, lemma_ids
from checks.trap.operands import CODE_SIZE, FUNCTIONS
from checks.trap.ownership import Ownership
from checks.trap.runs import Settings
from checks.trap.subject import Subject
from checks.trap.theorems import Theorem
from grammar import ir
from refmodel.encoder import Encoder


class FormGoals(Protocol):
    """More goals about each form, beside the theorems of this family."""

    def functions(self, program: ir.Program) -> frozenset[str]:
        """The functions of the specification that their terms are made from, besides the instruction."""
        ...

    def ids(self, program: ir.Program, form: Form) -> Sequence[str]:
        """The ids of a form's goals."""
        ...

    def goals(self, subject: Subject) -> Iterator[Goal]:
        """The goals themselves."""
        ...


@dataclass(slots=True)
class TrapFamily:
    """Theorems about instructions, and about the delivery of events.  `beside` are other goals about the same forms."""

    name: str = "trap"
    beside: tuple[FormGoals, ...] = ()
    _prepared: dict[int, Prepared] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each instruction or family of instructions.  All of them rest on the lemmas."""
        lemmas = lemma_ids(program, self.name)
        lemma = tuple(one for ids in lemmas.values() for one in ids)
        translation = Roots(functions=frozenset((*LOADS, *STORES)), has_invariants=False)
        for group, ids in lemmas.items():
            yield Outline(group, ids, roots=translation)
        for function in event_functions(program):
            roots = Roots(functions=frozenset({function.name}), has_invariants=False)
            yield Outline(f"{self.name}.{function.name}", tuple(self._ids(function.name)), lemma, roots)
        beside = frozenset[str]().union(*(one.functions(program) for one in self.beside))
        for block, forms in self._of(program).groups.items():
            own = tuple(one for form in forms for one in self._form_ids(program, form))
            yield Outline(f"{self.name}.{block}", own, lemma, _roots(forms, beside))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group: of the forms that `ids` belong to, or all."""
        prepared = self._of(program)
        settings = Settings.create(prepared.ownership, AbstractTerms(context))
        comparer = Comparer(prepared.ownership, settings.terms)
        subject = group.removeprefix(f"{self.name}.")
        goals = list(lemma_goals(subject, self.name, settings, prepared.ownership))
        for function in event_functions(program):
            if function.name == subject:
                goals += event_goals(group, function, settings, comparer)
        for form in prepared.groups.get(subject, ()):
            if ids is None or not ids.isdisjoint(self._form_ids(program, form)):
                goals += self._form_goals(Subject(form, settings, comparer, prepared), ids)
        promises = tuple(settings.terms.truth(condition) for _, condition in settings.promises())
        return Group(group, context, tuple(goals), promises)

    def _ids(self, subject: str) -> list[str]:
        return [f"{self.name}.{subject}.{theorem}" for theorem in Theorem]

    def _form_ids(self, program: ir.Program, form: Form) -> list[str]:
        beside = (one for other in self.beside for one in other.ids(program, form))
        return [*self._ids(form.name), *beside]

    def _form_goals(self, subject: Subject, ids: frozenset[str] | None) -> Iterator[Goal]:
        """The goals of the form; terms are made only for those that are wanted."""
        name = f"{self.name}.{subject.form.name}"
        if ids is None or not ids.isdisjoint(self._ids(subject.form.name)):
            yield from subject.proof.goals(name, subject.explainer(name))
        for other in self.beside:
            if ids is None or not ids.isdisjoint(other.ids(subject.settings.program, subject.form)):
                yield from other.goals(subject)

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
            self.groups.setdefault(program.instructions[name].family or name, []).extend(forms)

    @cached_property
    def encoder(self) -> Encoder:
        """Writes the instruction of a counterexample."""
        return Encoder(self.program)


def _roots(forms: Sequence[Form], beside: frozenset[str]) -> Roots:
    """The instructions of a block, what reads and writes their operands, and what a case asks of the start state."""
    names = tuple(dict.fromkeys(form.instruction.name for form in forms))
    operands = FUNCTIONS if any(form.kinds for form in forms) else frozenset()
    return Roots(names, functions=operands | beside | {"cpl", CODE_SIZE}, has_invariants=False)
