"""The lemma that states which look the same to the guest agree on the part of a variable that runs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.state import Source, State, Surroundings, value_at
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Value, equal, fresh, width_of
from checks.theorem import Counterexample, Goal, Witness
from checks.trap.concrete import Concrete, item, show
from checks.trap.initial import Symbols, is_seen_indirectly, is_shared, masked_part
from checks.trap.lemma_case import SAME_LOOKS, THOUGH_DIFFERENT, lemma_case
from checks.trap.runs import Settings
from grammar import ir

VIEWS = "views"
_COLUMNS = ("first state", "second state")
_TEXT = "states that look the same to the guest differ in what all runs are to share"


def divided(program: ir.Program) -> list[ir.StateVariable]:
    """The variables of which the two runs share a part."""
    return [
        v
        for v in program.state.values()
        if v.space == "register" and v.view is not None and not is_shared(v) and not is_seen_indirectly(v)
    ]


@dataclass(slots=True)
class _TwoValues(Source):
    """Initial values of which two states share all but those of one variable."""

    symbols: Symbols
    name: str
    side: str

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        own = f"{variable.name}!{self.side}" if variable.name == self.name else variable.name
        return self.symbols.value(own, variable, point)


def view_goal(name: str, variable: ir.StateVariable, settings: Settings) -> Goal:
    """Equal views ⇒ equal shared parts, whatever the controls."""
    lemma = _Lemma(name, variable, settings)
    looks_same, terms = lemma.looks_same, settings.terms
    differ = terms.conjunction((looks_same, terms.negation(lemma.are_equal)))
    witnesses = Witness(THOUGH_DIFFERENT, terms.truth(differ)), Witness(SAME_LOOKS, terms.truth(looks_same))
    return Goal(
        name,
        terms.truth(terms.implies(looks_same, lemma.parts_agree)),
        witnesses=witnesses,
        minimise=lemma.minimise,
        explain=lemma.explain,
    )


class _Lemma:
    """Two states that differ in one variable, of which an arbitrary element is looked at."""

    def __init__(self, goal: str, variable: ir.StateVariable, settings: Settings) -> None:
        program, terms = settings.program, settings.terms
        self.goal, self.variable, self.settings = goal, variable, settings
        self.evaluator = evaluator = Evaluator(program, terms)
        self.point = tuple(fresh(terms, f"{variable.name}.{p.name}", p.type) for p in variable.indices)
        bindings = {p.name: v for p, v in zip(variable.indices, self.point, strict=True)}
        if self.point:
            evaluator.touched.element(variable.name, self.point)
        memories = settings.first.surroundings.memories
        self.states = [
            State(Surroundings(program, terms, _TwoValues(settings.symbols, variable.name, side), memories))
            for side in ("left", "right")
        ]
        for state in self.states:
            state.set(settings.mode, True)
        views = [evaluator.pure(cast(ir.Expr, variable.view), state, **bindings) for state in self.states]
        parts = [_shared_part(evaluator, variable, state, self.point, bindings) for state in self.states]
        self.views, self.parts = views, parts
        self.looks_same = equal(terms, views[0], views[1], variable.type)
        self.parts_agree = equal(terms, parts[0], parts[1], variable.type)
        self.values = [value_at(state, variable, self.point) for state in self.states]
        self.are_equal = equal(terms, self.values[0], self.values[1], variable.type)

    def minimise(self) -> list[z3.ExprRef]:
        """The index and the values of the variable, and then everything else."""
        values = [value for value, _ in self.settings.symbols.scalars.values()]
        return [one for one in (*self.point, *self.values, *values) if isinstance(one, z3.ExprRef)]

    def explain(self, model: z3.ModelRef) -> Counterexample:
        """Both values of the variable, what the guest sees of them, and the part that is to be shared."""
        concrete, type_ = Concrete(model), self.variable.type
        name = item(self.variable.name, concrete.point(self.point))
        left, right = (concrete.items(state, self.evaluator) for state in self.states)
        sides = {name: (left[name], right[name])}
        for what, values in ((f"{name} as it is seen", self.views), (f"{name}, shared", self.parts)):
            sides[what] = concrete.number(values[0]), concrete.number(values[1])
        rows = tuple((what, *(show(value, type_) for value in values)) for what, values in sides.items())
        other = {name: right[name]} if left[name] != right[name] else {}
        case = lemma_case(self.settings.program, self.goal, name, left, other, _COLUMNS, _TEXT)
        return Counterexample(_TEXT, ("", *_COLUMNS), rows, self.variable.span, case)


def _shared_part(
    evaluator: Evaluator, variable: ir.StateVariable, state: State, point: Point, bindings: dict[str, Value]
) -> Value:
    """What the runs share: the bits that the mask leaves to the guest, or all if the guest owns the variable."""
    terms: Terms = evaluator.terms
    value = cast(Vector, value_at(state, variable, point))
    width, mask = width_of(variable.type), masked_part(variable)
    if mask is not None:
        bits = cast(Vector, evaluator.pure(mask, state))
        return terms.arithmetic("&", value, terms.complement(bits, width), width)
    owner = cast(Truth, evaluator.pure(variable.owner, state, **bindings))
    return terms.choose(owner, value, 0, width)
