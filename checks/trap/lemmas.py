"""What the theorems about instructions take for granted, and the proof of it.

- `trap.translation.C`, `.E`: what decides on a page fault is the same in both runs, and on the bare machine.
- `trap.views.NAME`: two states that look the same to the guest agree on the part of a variable that the runs share, so
  that sharing its symbols leaves out no pair of states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Value, equal, fresh, width_of
from checks.theorem import Counterexample, Goal
from checks.trap.concrete import Concrete, show
from checks.trap.initial import Symbols, is_seen_indirectly, is_shared, masked_part
from checks.trap.ownership import Ownership
from checks.trap.runs import Settings
from checks.trap.theorems import Theorem
from grammar import ir
from grammar.source import Span

TRANSLATION = "translation"
VIEWS = "views"
_SIDES = {Theorem.CONFIDENTIALITY: 1, Theorem.EQUIVALENCE: 2}
_COLUMNS = {
    Theorem.CONFIDENTIALITY: ("first run", "second run"),
    Theorem.EQUIVALENCE: ("guest", "bare machine"),
}


def lemma_ids(program: ir.Program, family: str) -> dict[str, tuple[str, ...]]:
    """The ids of all lemmas, by group."""
    views = tuple(f"{family}.{VIEWS}.{variable.name}" for variable in _divided(program))
    return {
        f"{family}.{TRANSLATION}": tuple(f"{family}.{TRANSLATION}.{theorem}" for theorem in _SIDES),
        f"{family}.{VIEWS}": views,
    }


def lemma_goals(subject: str, family: str, settings: Settings, ownership: Ownership) -> Iterator[Goal]:
    """The goals of one of the groups, none for any other subject."""
    if subject == TRANSLATION:
        yield from _translation(f"{family}.{TRANSLATION}", settings, ownership)
    elif subject == VIEWS:
        for variable in _divided(settings.program):
            yield _view(f"{family}.{VIEWS}.{variable.name}", variable, settings)


# --- translation ---------------------------------------------------------------------------------


def _translation(name: str, settings: Settings, ownership: Ownership) -> Iterator[Goal]:
    inputs = ownership.all_inputs()
    rows = list(zip(inputs, settings.translation_inputs(ownership), strict=True))
    where = next(f.span for f in settings.program.functions.values() if f.source == "load")
    for theorem, side in _SIDES.items():
        compared = [(one, row[0], row[side]) for one, row in rows]
        same = settings.terms.conjunction(equal(settings.terms, a, b, one.type) for one, a, b in compared)
        explain = partial(_explain_inputs, _COLUMNS[theorem], compared, settings, where)
        minimise = partial(_scalars, settings)
        yield Goal(f"{name}.{theorem}", settings.terms.truth(same), minimise=minimise, explain=explain)


def _scalars(settings: Settings) -> list[z3.ExprRef]:
    values = (value for value, _ in settings.symbols.scalars.values())
    return [value for value in values if isinstance(value, z3.ExprRef)]


def _explain_inputs(
    columns: tuple[str, str],
    compared: list[tuple[ir.Expr, Value, Value]],
    settings: Settings,
    where: Span,
    model: z3.ModelRef,
) -> Counterexample:
    """The start state's control registers, and the inputs that differ."""
    concrete = Concrete(model)
    rows = []
    for name in sorted({name.split("!")[0] for name in settings.symbols.scalars}):
        variable = settings.program.state[name]
        values = [concrete.number(state.get(name)) for state in (settings.first, settings.second)]
        if any(values) and not isinstance(variable.type, ir.Struct):
            rows.append((name, *(show(value, variable.type) for value in values)))
    rows = [(n, a, b if columns[1] == "second run" else "") for n, a, b in rows]
    for one, left, right in compared:
        a, b = concrete.number(left), concrete.number(right)
        if a != b:
            rows.append((f"{_input_text(one)} counts as", show(a, one.type), show(b, one.type)))
    return Counterexample(
        "whether a page fault is raised depends on what the guest does not see",
        ("", *columns),
        tuple(rows),
        where,
    )


def _input_text(expression: ir.Expr) -> str:
    """`CR0.WP`, `CR3[39..12]` or `EFER`."""
    if isinstance(expression, (ir.Slice, ir.Bit)) and isinstance(expression.base, ir.Read):
        high, low = (
            (expression.high, expression.low)
            if isinstance(expression, ir.Slice)
            else (cast(ir.Literal, expression.index).value,) * 2
        )
        type_ = expression.base.type
        members = type_.members if isinstance(type_, ir.Bitfield) else ()
        named = next((m.name for m in members if (m.high, m.low) == (high, low)), None)
        return f"{expression.base.name}.{named}" if named else f"{expression.base.name}[{high}..{low}]"
    return expression.name if isinstance(expression, ir.Read) else "an input"


# --- views ---------------------------------------------------------------------------------------


def _divided(program: ir.Program) -> list[ir.StateVariable]:
    """The variables of which the two runs share a part."""
    return [
        v
        for v in program.state.values()
        if v.space == "register" and v.view is not None and not is_shared(v) and not is_seen_indirectly(v)
    ]


@dataclass(slots=True)
class _TwoValues:
    """Initial values of which two states share all but those of one variable."""

    symbols: Symbols
    name: str
    side: str

    def scalar(self, variable: ir.StateVariable) -> Value:
        return self.element(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        own = f"{variable.name}!{self.side}" if variable.name == self.name else variable.name
        return self.symbols.value(own, variable, point)


def _view(name: str, variable: ir.StateVariable, settings: Settings) -> Goal:
    """Equal views ⇒ equal shared parts, whatever the controls."""
    program, terms = settings.program, settings.terms
    memories = settings.first.surroundings.memories
    point = tuple(fresh(terms, f"{variable.name}.{p.name}", p.type) for p in variable.indices)
    bindings = {p.name: v for p, v in zip(variable.indices, point, strict=True)}
    states = [
        State(Surroundings(program, terms, _TwoValues(settings.symbols, variable.name, side), memories))
        for side in ("left", "right")
    ]
    for state in states:
        state.set(settings.mode, True)
    evaluator = Evaluator(program, terms)
    views = [evaluator.pure(cast(ir.Expr, variable.view), state, **bindings) for state in states]
    parts = [_shared_part(evaluator, variable, state, point, bindings) for state in states]
    looks_same = equal(terms, views[0], views[1], variable.type)
    return Goal(name, terms.truth(terms.implies(looks_same, equal(terms, parts[0], parts[1], variable.type))))


def _shared_part(
    evaluator: Evaluator, variable: ir.StateVariable, state: State, point: Point, bindings: dict[str, Value]
) -> Value:
    """What the runs share: the bits that the mask leaves to the guest, or all if the guest owns the variable."""
    terms: Terms = evaluator.terms
    value = cast(Vector, state.elements(variable.name).read(point) if point else state.get(variable.name))
    width, mask = width_of(variable.type), masked_part(variable)
    if mask is not None:
        bits = cast(Vector, evaluator.pure(mask, state))
        return terms.arithmetic("&", value, terms.complement(bits, width), width)
    owner = cast(Truth, evaluator.pure(variable.owner, state, **bindings))
    return terms.choose(owner, value, 0, width)
