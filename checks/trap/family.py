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
from checks.symbolic.terms import Terms, Vector
from checks.theorem import Goal, Group, Outline
from checks.trap.casefile import FormExplainer
from checks.trap.compare import Comparer
from checks.trap.events import event_functions, event_goals
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.lemmas import lemma_goals, lemma_ids
from checks.trap.operands import CODE_SIZE, OperandSymbols, SymbolicOperands
from checks.trap.ownership import Ownership
from checks.trap.runs import Act, Settings
from checks.trap.theorems import FormProof, Theorem
from grammar import ir
from refmodel.encoder import Encoder


@dataclass(slots=True)
class TrapFamily:
    """Theorems about instructions, and about the delivery of events."""

    name: str = "trap"
    _prepared: dict[int, Prepared] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each file of instructions, since a z3 context of its own for each instruction costs more.

        All of them rest on the lemmas.
        """
        lemmas = lemma_ids(program, self.name)
        lemma = tuple(one for ids in lemmas.values() for one in ids)
        for group, ids in lemmas.items():
            yield Outline(group, ids)
        for function in event_functions(program):
            yield Outline(f"{self.name}.{function.name}", tuple(self._ids(function.name)), lemma)
        for file, forms in self._of(program).groups.items():
            own = tuple(one for form in forms for one in self._ids(form.name))
            yield Outline(f"{self.name}.{file}", own, lemma)

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group: of the forms that `ids` belong to, or all."""
        prepared = self._of(program)
        settings = Settings.create(prepared.ownership, context)
        comparer = Comparer(prepared.ownership, settings.terms)
        subject = group.removeprefix(f"{self.name}.")
        goals = list(lemma_goals(subject, self.name, settings, prepared.ownership))
        for function in event_functions(program):
            if function.name == subject:
                goals += event_goals(group, function, settings, comparer)
        for form in prepared.groups.get(subject, ()):
            if ids is not None and ids.isdisjoint(self._ids(form.name)):
                continue
            goals += _form_goals(f"{self.name}.{form.name}", form, settings, comparer, prepared)
        promises = tuple(settings.terms.truth(condition) for _, condition in settings.promises())
        return Group(group, context, tuple(goals), promises)

    def _ids(self, subject: str) -> list[str]:
        return [f"{self.name}.{subject}.{theorem}" for theorem in Theorem]

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


def _form_goals(
    name: str, form: Form, settings: Settings, comparer: Comparer, prepared: Prepared
) -> Iterator[Goal]:
    symbols = OperandSymbols.of(settings, form)
    explainer = FormExplainer(settings, form.instruction.span, name, symbols, prepared)
    proof = FormProof.of(settings, comparer, act_of(form, symbols), symbols.hypotheses())
    yield from proof.goals(name, explainer)


def act_of(form: Form, symbols: OperandSymbols) -> Act:
    """What a run of a form does: the body, after NEXT_RIP was set as `execute` sets it."""

    def act(evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        evaluator.operands = SymbolicOperands(evaluator, symbols)
        code_size = evaluator.call(evaluator.program.functions[CODE_SIZE], (), cursor, exits)
        following = _next_rip(evaluator.terms, cursor, symbols.length, cast(Vector, code_size))
        cursor.state.set("NEXT_RIP", following)
        evaluator.run(form.body.body, cursor, exits)

    return act


def _next_rip(terms: Terms, cursor: Cursor, length: Vector, code_size: Vector) -> Vector:
    """RIP plus the length, EIP plus it outside 64-bit mode."""
    following = terms.arithmetic("+", cast(Vector, cursor.state.get("RIP")), length, 64)
    low = terms.extend(terms.extract(following, 31, 0), 32, 64, is_signed=False)
    return terms.choose(terms.equal(code_size, 64, 64), following, low, 64)
