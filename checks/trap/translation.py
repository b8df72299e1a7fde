"""The lemma that what decides on a page fault is the same in both runs, and on the bare machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.values import Value, equal
from checks.theorem import Counterexample, Goal, Witness
from checks.trap.casefile import seen_items, vmm_items
from checks.trap.concrete import Concrete, show
from checks.trap.lemma_case import SAME_LOOKS, lemma_case
from checks.trap.ownership import Ownership
from checks.trap.runs import Settings
from checks.trap.theorems import Theorem
from grammar import ir

TRANSLATION = "translation"
SIDES = {Theorem.CONFIDENTIALITY: 1, Theorem.EQUIVALENCE: 2}
"""Which of the three initial states each theorem compares with the first."""
_COLUMNS = {
    Theorem.CONFIDENTIALITY: ("first run", "second run"),
    Theorem.EQUIVALENCE: ("guest", "bare machine"),
}
_TEXT = "whether a page fault is raised depends on what the guest does not see"


def translation_goals(name: str, settings: Settings, ownership: Ownership) -> Iterator[Goal]:
    """The lemma about both theorems."""
    evaluator = Evaluator(settings.program, settings.terms)
    rows = list(zip(ownership.all_inputs(), settings.translation_inputs(ownership, evaluator), strict=True))
    witness = Witness(SAME_LOOKS, z3.BoolVal(True, settings.terms.context))  # the states are made so
    for theorem, side in SIDES.items():
        compared = [(one, row[0], row[side]) for one, row in rows]
        same = settings.terms.conjunction(equal(settings.terms, a, b, one.type) for one, a, b in compared)
        lemma = _Lemma(f"{name}.{theorem}", theorem, settings, evaluator, compared)
        yield Goal(
            lemma.goal,
            settings.terms.truth(same),
            witnesses=(witness,),
            minimise=partial(_scalars, settings),
            explain=lemma.explain,
        )


def _scalars(settings: Settings) -> list[z3.ExprRef]:
    values = (value for value, _ in settings.symbols.scalars.values())
    return [value for value in values if isinstance(value, z3.ExprRef)]


@dataclass(frozen=True, slots=True)
class _Lemma:
    """The lemma about one theorem: the inputs on both of its sides."""

    goal: str
    theorem: Theorem
    settings: Settings
    evaluator: Evaluator
    compared: list[tuple[ir.Expr, Value, Value]]

    def explain(self, model: z3.ModelRef) -> Counterexample:
        """The start state's control registers, and the inputs that differ."""
        concrete, columns = Concrete(model), _COLUMNS[self.theorem]
        self.settings.promises(self.evaluator)  # which notes what of the VMM's they are about
        left, right = self._first_state(concrete), self._other_state(concrete)
        rows = (*self._registers(left, right), *self._differences(concrete))
        case = lemma_case(self.settings.program, self.goal, TRANSLATION, left, right, columns, _TEXT)
        where = next(f.span for f in self.settings.program.functions.values() if f.source == "load")
        return Counterexample(_TEXT, ("", *columns), rows, where, case)

    def _first_state(self, concrete: Concrete) -> dict[str, int]:
        settings, touched = self.settings, self.evaluator.touched
        own = vmm_items(concrete, settings.first, touched) | seen_items(concrete, settings)
        return concrete.items(settings.first, self.evaluator) | own

    def _other_state(self, concrete: Concrete) -> dict[str, int]:
        """What the other start state has that does not follow from the first."""
        settings, evaluator = self.settings, self.evaluator
        if self.theorem is Theorem.EQUIVALENCE:
            bare, state = concrete.items(settings.bare, evaluator), settings.program.state
            return {n: v for n, v in bare.items() if v and state[n.split("[")[0]].view is None}
        first, second = (
            concrete.items(one, evaluator) | vmm_items(concrete, one, evaluator.touched)
            for one in (settings.first, settings.second)
        )
        return {name: value for name, value in second.items() if value != first.get(name)}

    def _registers(self, left: dict[str, int], right: dict[str, int]) -> Iterator[tuple[str, str, str]]:
        """What the solver chose of both states; of the bare machine it is what the guest sees."""
        state = self.settings.program.state
        for name in sorted({name.split("!")[0] for name in self.settings.symbols.scalars} & left.keys()):
            values = (left[name], right.get(name, left[name]))
            if any(values):
                a, b = (show(value, state[name].type) for value in values)
                yield name, a, b if self.theorem is Theorem.CONFIDENTIALITY else ""

    def _differences(self, concrete: Concrete) -> Iterator[tuple[str, str, str]]:
        for one, left, right in self.compared:
            a, b = concrete.number(left), concrete.number(right)
            if a != b:
                yield f"{input_text(one)} counts as", show(a, one.type), show(b, one.type)


def input_bits(expression: ir.Expr) -> tuple[ir.Read, int, int]:
    """The register that an input of translation is read from, and its highest and lowest bit."""
    if isinstance(expression, ir.Read):
        return expression, getattr(expression.type, "width", 1) - 1, 0
    field = cast(ir.Slice | ir.Bit, expression)
    if isinstance(field, ir.Slice):
        return cast(ir.Read, field.base), field.high, field.low
    number = cast(ir.Literal, field.index).value
    return cast(ir.Read, field.base), number, number


def input_text(expression: ir.Expr) -> str:
    """`CR0.WP`, `CR3[39..12]` or `EFER`."""
    read, high, low = input_bits(expression)
    if isinstance(expression, ir.Read):
        return read.name
    members = read.type.members if isinstance(read.type, ir.Bitfield) else ()
    named = next((m.name for m in members if (m.high, m.low) == (high, low)), None)
    return f"{read.name}.{named}" if named else f"{read.name}[{high}..{low}]"
