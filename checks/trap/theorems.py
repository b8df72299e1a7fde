"""The three theorems, for one form.

- C, confidentiality: two runs from states that look the same to the guest take the same decision to exit or fault,
  and if neither exits, the states after them look the same.
- I, integrity: a run that does not exit leaves what the VMM owns as it was.
- E, equivalence: a run that does not exit does what the bare machine does that the guest believes to have.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import z3

from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import equal
from checks.theorem import Counterexample, Goal, Witness
from checks.trap.compare import Comparer, Comparison, before_and_after, where_it_stays
from checks.trap.contract import LINEAR
from checks.trap.initial import is_look_assumed, is_shared
from checks.trap.mapping import CANONICAL, PAGE
from checks.trap.runs import Act, Run, Settings

IN_AN_ACCESS = "in an access"
"""Ends the names of witnesses in which the contract for memory lets an access fail."""


class Theorem(enum.StrEnum):
    """The last component of a goal's id."""

    CONFIDENTIALITY = "C"
    INTEGRITY = "I"
    EQUIVALENCE = "E"


@dataclass(frozen=True, slots=True)
class Claim:
    """A theorem about one form: where `left` and `right` are runs, what must hold of them.

    `decisions` says that they take the same decisions; `comparisons` are the values to be equal where the runs do
    not exit.
    """

    theorem: Theorem
    left: Run
    right: Run
    decisions: Truth
    comparisons: Sequence[Comparison]

    def conclusion(self, terms: Terms) -> Truth:
        """The theorem as one term."""
        wanted = (terms.implies(c.condition, c.is_equal) for c in self.comparisons)
        return terms.conjunction((self.decisions, *wanted))


class Explainer(Protocol):
    """Renders the refutation of a claim."""

    def minimise(self, claim: Claim) -> Sequence[z3.ExprRef]:
        """What a counterexample shall have zero if it can, the most important first."""
        ...

    def explain(self, claim: Claim, model: z3.ModelRef) -> Counterexample:
        """The counterexample under a model."""
        ...


@dataclass(slots=True)
class FormProof:
    """The claims about one form, whose runs `act` makes.

    `assumed` holds of the form's operands, and says that the states look the same; `instances` are, by name, the
    policies with parameters, at what the runs use. Both are assumed besides the plain policies.
    """

    settings: Settings
    comparer: Comparer
    claims: tuple[Claim, ...]
    assumed: list[Truth]
    instances: list[tuple[str, Truth]]

    @classmethod
    def of(cls, settings: Settings, comparer: Comparer, act: Act, assumed: Sequence[Truth]) -> FormProof:
        """Runs the form and states C, I and E; `assumed` holds of its operands."""
        first = settings.run(settings.first, act)
        uses_secrets = any(_is_secret(settings, name) for name in first.evaluator.touched.names)
        # The two runs differ in secrets only: if the first uses none, the second is the same.
        second = settings.run(settings.second, act) if uses_secrets else first
        bare = settings.run(settings.bare, act)
        claims = (
            _confidentiality(settings.terms, comparer, first, second),
            Claim(Theorem.INTEGRITY, first, first, True, list(comparer.hosts(before_and_after(first)))),
            _equivalence(settings.terms, comparer, first, bare),
        )
        runs = [first] if first is second else [first, second]
        instances = [one for run in runs for one in settings.instances(run)]
        looks = _same_looks(settings, comparer, first, second) if first is not second else []
        return cls(settings, comparer, claims, [h for h in (*assumed, *looks) if h is not True], instances)

    @property
    def hypotheses(self) -> list[Truth]:
        """All that is assumed besides the plain policies."""
        return [*self.assumed, *(condition for _, condition in self.instances if condition is not True)]

    def goals(self, name: str, explainer: Explainer) -> Iterator[Goal]:
        """The claims as goals, whose ids begin with `name`."""
        terms = self.settings.terms
        witnesses = tuple(witnesses_of(terms, self.claims[0].left))
        hypotheses = tuple(terms.truth(h) for h in self.hypotheses)
        for claim in self.claims:
            yield Goal(
                f"{name}.{claim.theorem}",
                terms.truth(claim.conclusion(terms)),
                hypotheses,
                witnesses,
                partial(explainer.minimise, claim),
                partial(explainer.explain, claim),
            )


def witnesses_of(terms: Terms, run: Run, assumed: Iterable[Truth] = ()) -> Iterator[Witness]:
    """What a run can do where `assumed` holds."""
    hints, every = _hints(terms, run), tuple(assumed)
    for name, condition in _outcomes(terms, run):
        if condition is not False:
            yield Witness(name, terms.truth(terms.conjunction((*every, condition))), hints)


def _outcomes(terms: Terms, run: Run) -> Iterator[tuple[str, Truth]]:
    """What a run can do; first what the reference can be made to do, with memory in which no access fails."""
    accessed = terms.negation(terms.disjunction(run.aborts))
    yield "completes", run.completes
    yield "faults", terms.conjunction((run.faults, accessed))
    yield "exits", terms.conjunction((run.exits, accessed))
    if run.aborts:
        yield f"faults {IN_AN_ACCESS}", run.faults
        yield f"exits {IN_AN_ACCESS}", run.exits


def _hints(terms: Terms, run: Run) -> tuple[z3.BoolRef, ...]:
    """The general registers that a run uses are below 16: then a quotient is soon found.  What is accessed has
    canonical addresses, in the next page too.
    """
    touched = run.evaluator.touched.points
    registers = run.start.elements("GPR")
    limits = [(cast(Vector, registers.read(point)), 16) for point in touched.get("GPR", {}).values()]
    limits += [
        (cast(Vector, address), CANONICAL - (1 << PAGE)) for (address,) in touched.get(LINEAR, {}).values()
    ]
    return tuple(terms.truth(terms.compare("<", value, limit, 64)) for value, limit in limits)


def _is_secret(settings: Settings, name: str) -> bool:
    variable = settings.program.state.get(name)
    return variable is not None and not is_shared(variable)


def _confidentiality(terms: Terms, comparer: Comparer, first: Run, second: Run) -> Claim:
    if first is second:
        return Claim(Theorem.CONFIDENTIALITY, first, second, True, [])
    decisions = (
        terms.equivalent(first.completes, second.completes),
        terms.equivalent(first.faults, second.faults),
        _same_fault(terms, first, second),
    )
    comparisons = list(comparer.views(where_it_stays(first, second)))
    return Claim(Theorem.CONFIDENTIALITY, first, second, terms.conjunction(decisions), comparisons)


def _equivalence(terms: Terms, comparer: Comparer, run: Run, bare: Run) -> Claim:
    decisions = (
        terms.implies(run.completes, bare.completes),
        terms.implies(run.faults, bare.faults),
        _same_fault(terms, run, bare),
    )
    comparisons = list(comparer.guest_and_bare(where_it_stays(run, bare)))
    return Claim(Theorem.EQUIVALENCE, run, bare, terms.conjunction(decisions), comparisons)


def _same_fault(terms: Terms, a: Run, b: Run) -> Truth:
    """Where the first run faults, the second raises the same."""
    if a.fault is None or b.fault is None:
        return terms.negation(a.faults)
    return terms.implies(a.faults, equal(terms, a.fault, b.fault, a.fault.type))


def _same_looks(settings: Settings, comparer: Comparer, first: Run, second: Run) -> list[Truth]:
    """View = view for what the runs used and do not share by construction."""
    used = first.evaluator.touched.names | second.evaluator.touched.names
    variables = [v for v in settings.program.state.values() if v.name in used and is_look_assumed(v)]
    return [comparison.is_equal for comparison in comparer.starts(variables, first, second)]
