"""Explains how a promise about a guest is broken: what it depends on, before and after, and a case to replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import z3

from checks.case import Case
from checks.host_state.dependencies import bits_read
from checks.host_state.promises import Promise
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.state import State, value_at
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, fresh, leaves
from checks.theorem import Counterexample, Goal, Witness
from checks.totality.open_run import used_items
from checks.trap.casefile import FormExplainer
from checks.trap.concrete import Concrete, item, show
from checks.trap.theorems import Claim
from grammar import ir

KIND = "host_state"
"""The kind of the cases."""

GOES_ON = "goes on"
"""The witness of most goals."""


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from a state to one of which promises are asked, where `taken` holds.

    `calls` are the functions of the specification that `nonroot replay` calls one after the other, with the values of
    their arguments; `used` are the evaluators that made the terms.
    """

    what: str
    before: State
    after: State
    taken: Truth
    calls: Sequence[tuple[ir.Function, Sequence[Value]]] = ()
    used: Sequence[Evaluator] = ()
    hypotheses: tuple[z3.BoolRef, ...] = ()
    witness: str = GOES_ON


@dataclass(frozen=True, slots=True)
class Kept:
    """A promise that is to hold after a change; `held` is what it said before, None if nothing is known of that."""

    name: str
    change: Change
    promise: Promise
    held: Truth | None
    holds: Truth

    def goal(self, terms: Terms) -> Goal:
        """The goal; it is literally true if the promise says the same as before."""
        is_same = self.held is not None and terms.same(self.held, self.holds)
        kept = is_same or terms.implies(self.change.taken, self.holds)
        witness = Witness(self.change.witness, terms.truth(self.change.taken))
        return Goal(
            self.name, terms.truth(kept), self.change.hypotheses, (witness,), self.minimise, self.explain
        )

    def minimise(self) -> Sequence[z3.ExprRef]:
        """All that was used of the state before."""
        values = (value_at(self.change.before, variable, point) for variable, point in self._used())
        return [value for value in values if isinstance(value, z3.ExprRef)]

    def explain(self, model: z3.ModelRef) -> Counterexample:
        """What the promise reads, before and after, and the arguments of the calls, as far as they are not zero."""
        concrete, change = Concrete(model), self.change
        read = bits_read(change.before.surroundings.program, self.promise.predicate.condition)
        before, rows = dict[str, int](), dict[str, tuple[str, str]]()
        for variable, point in self._used():
            old, new = (concrete.number(value_at(s, variable, point)) for s in (change.before, change.after))
            name = item(variable.name, concrete.point(point))
            before[name] = old
            if variable.name in read and (old or new):
                rows[name] = show(old, variable.type), show(new, variable.type)
        arguments = self._arguments(concrete)
        given = ((name, show(value, type_), "") for name, (value, type_) in arguments.items() if value)
        summary = f"{change.what} does not keep {self.promise.name}"
        case = self._case(concrete, before, summary, arguments) if change.calls else None
        return Counterexample(
            summary,
            ("what", "before", "after"),
            (*given, *((name, *values) for name, values in sorted(rows.items()))),
            self.promise.predicate.span,
            case,
        )

    def _used(self) -> Iterator[tuple[ir.StateVariable, Point]]:
        return used_items(self.change.before, self.change.used)

    def _arguments(self, concrete: Concrete) -> dict[str, tuple[int, ir.Type]]:
        """What the calls are given, by the names that a case has for it."""
        return {
            ".".join(filter(None, (function.name, parameter.name, leaf))): (concrete.number(part), type_)
            for function, values in self.change.calls
            for parameter, value in zip(function.parameters, values, strict=True)
            for leaf, part, type_ in leaves(value, parameter.type)
        }

    def _case(
        self,
        concrete: Concrete,
        before: Mapping[str, int],
        text: str,
        arguments: Mapping[str, tuple[int, ir.Type]],
    ) -> dict[str, object]:
        """The state before, and the calls with their arguments."""
        terms = self.change.before.surroundings.terms
        expected = {name: value for name, (value, _) in arguments.items()} | {
            f"{self.promise.name}.{p.name}": concrete.number(fresh(terms, p.name, p.type))
            for p in self.promise.predicate.parameters
        }
        state = self.change.before.surroundings.program.state
        return Case(
            kind=KIND,
            id=self.name,
            code=b"",
            instruction="; ".join((*(f.name for f, _ in self.change.calls), self.promise.name)),
            state={n: v for n, v in before.items() if v != state[n.split("[")[0]].reset},
            expected=expected,
            text=text,
        ).document()


@dataclass(slots=True)
class InstructionExplainer(FormExplainer):
    """Explains how an instruction that a guest executes by itself breaks promises about the guest."""

    kind: ClassVar[str] = KIND

    def wording(self, claim: Claim) -> tuple[str, tuple[str, str]]:  # noqa: ARG002 - there is one theorem
        """What is wrong, and what the two columns of values are."""
        return "what the guest does by itself breaks a promise about it", ("promised", "then")

    def goal(self, claim: Claim) -> str:  # noqa: ARG002
        """The id of the goal that the claim is."""
        return self.name
