"""States the theorem for one exit: the guest under the VMM against the bare machine."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from checks.emulation.explain import HandlingExplainer
from checks.emulation.machine import PORTS, PORTS_WIDTH, Instruction, is_handled
from checks.emulation.runs import Handled, Player, waits_for_ever
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import equal
from checks.theorem import Goal, Witness
from checks.trap.compare import Comparer, where_it_stays
from checks.trap.family import Prepared
from checks.trap.forms import Form
from checks.trap.operands import OperandSymbols
from checks.trap.runs import Run
from checks.trap.theorems import Claim, Theorem

RESUMES, GETS_EVENT, IS_STOPPED, NEVER_EXITS = "resumes", "gets the event", "is stopped", "never exits"
"""What a guest may experience."""


@dataclass(slots=True)
class Emulation:
    """Makes the goals of one group."""

    player: Player
    comparer: Comparer
    constants: Container[str]

    def of_instruction(
        self,
        name: str,
        form: Form,
        symbols: OperandSymbols,
        instruction: tuple[Instruction, Instruction],
        tools: Prepared,
    ) -> Goal:
        """The theorem about one form; trivial if it never exits."""
        settings, terms = self.player.settings, self.player.settings.terms
        handled = self.player.handled(*instruction)
        if handled is None:
            return Goal(name, terms.truth(True))
        bare = self.player.bare(*instruction, handled)
        claim = self.claim(handled, bare)
        assumed = [handled.saved, *symbols.hypotheses(), *(c for _, c in settings.instances(handled.run))]
        hypotheses = tuple(terms.truth(h) for h in assumed if h is not True)
        explainer = HandlingExplainer(settings, form.instruction.span, name, symbols, tools, self.constants)
        return Goal(
            name,
            terms.truth(terms.implies(handled.exited, claim.conclusion(terms))),
            hypotheses,
            tuple(witnesses(terms, handled)),
            partial(explainer.minimise, claim),
            partial(explainer.explain, claim),
        )

    def claim(self, handled: Handled, bare: Run, fields: Sequence[str] | None = None) -> Claim:
        """What is to be alike; of events that are delivered `fields`, or all."""
        terms, run = self.player.settings.terms, handled.run
        decisions = (
            terms.implies(run.completes, bare.completes),
            terms.implies(run.faults, bare.faults),
            terms.implies(run.exits, bare.exits),
            terms.disjunction((run.completes, run.faults, run.exits)),
            _same_event(terms, run, bare, fields),
            self._runs_again(run),
            terms.implies(run.completes, terms.negation(waits_for_ever(terms, bare.completed))),
            is_handled(self.player.settings.program, terms, handled.event),
        )
        sides = list(where_it_stays(run, bare))
        comparisons = list(self.comparer.guest_and_bare(sides))
        for pair in sides:
            comparisons += self.comparer.memory(pair, PORTS, PORTS_WIDTH)
        return Claim(Theorem.EQUIVALENCE, run, bare, terms.conjunction(decisions), comparisons)

    def _runs_again(self, run: Run) -> Truth:
        """Unless it is stopped, the guest is back in VMX non-root operation."""
        terms, mode = self.player.settings.terms, self.player.settings.mode
        pairs = ((run.completes, run.completed), (run.faults, run.faulted))
        return terms.conjunction(terms.implies(c, state.get(mode)) for c, state in pairs)


def _same_event(terms: Terms, a: Run, b: Run, fields: Sequence[str] | None) -> Truth:
    """Where an event is delivered to the guest, the bare machine delivers the same."""
    if a.fault is None or b.fault is None:
        return terms.negation(a.faults)
    left, right = a.fault, b.fault
    compared = (
        equal(terms, left.field(name), right.field(name), type_)
        for name, type_ in left.type.fields
        if fields is None or name in fields
    )
    return terms.implies(a.faults, terms.conjunction(compared))


def witnesses(terms: Terms, handled: Handled) -> Iterator[Witness]:
    """What a guest that exits may experience."""
    outcomes = (
        (RESUMES, handled.run.completes),
        (GETS_EVENT, handled.run.faults),
        (IS_STOPPED, handled.run.exits),
    )
    for name, condition in outcomes:
        yield Witness(name, terms.truth(terms.conjunction((handled.exited, condition))))
    yield Witness(NEVER_EXITS, terms.truth(terms.negation(handled.exited)))
