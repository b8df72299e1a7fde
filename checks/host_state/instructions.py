"""`host_state.instructions.<form>`: what a guest does by itself keeps the rules of VM entry and the policies.

For each form of an instruction that writes anything a promise depends on: from a running guest of which all promises
hold, whether it completes, faults or exits, they hold again. That RIP moves on behind an instruction keeps them too is
`host_state.cycle.successor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import z3

from checks.host_state.dependencies import Dependencies, bits_read, bits_written
from checks.host_state.explain import InstructionExplainer
from checks.host_state.promises import RECORD, SAVE, Promise, Promises
from checks.host_state.running import IN_CODE, in_code
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.theorem import Goal, Witness
from checks.trap.compare import Comparison
from checks.trap.forms import Form
from checks.trap.runs import Run, Settings
from checks.trap.subject import Subject
from checks.trap.theorems import Claim, Theorem, witnesses_of
from checks.walk import names_in, reachable_functions
from grammar import ir

GROUP = "host_state.instructions"
IS_AFTER = "is_after_instruction"
"""Whether the instruction before has left something that lasts for one more: `cycle` has ended that."""


@dataclass(slots=True)
class InstructionGoals:
    """Goals beside the theorems about instructions."""

    _dependencies: dict[int, Dependencies] = field(default_factory=dict)
    _starts: dict[int, Start] = field(default_factory=dict)
    _known: dict[int, tuple[Form, tuple[Promise, ...]]] = field(default_factory=dict)

    def functions(self, program: ir.Program) -> frozenset[str]:
        """What a VM exit saves, and what the rules of VM entry call."""
        rules = [program.functions[n] for g in program.rules.values() for n in names_in(g).functions]
        return frozenset({RECORD, SAVE, IN_CODE, IS_AFTER, *(f.source for f in rules)})

    def ids(self, program: ir.Program, form: Form) -> list[str]:
        """One goal, if the form writes anything that a promise depends on."""
        return [f"{GROUP}.{form.name}"] if self._depending(program, form) else []

    def goals(self, subject: Subject) -> Iterator[Goal]:
        """The goal about a form."""
        settings = subject.settings
        depending = self._depending(settings.program, subject.form)
        if depending:
            start = self._starts.get(id(settings))
            if start is None or start.settings is not settings:
                start = self._starts[id(settings)] = Start.of(settings, self._of(settings.program))
            yield _goal(subject, start, depending)

    def _depending(self, program: ir.Program, form: Form) -> tuple[Promise, ...]:
        if SAVE not in program.functions:
            return ()
        if id(form) not in self._known:  # with the form, so that its identity stays its own
            depending = self._of(program).at_running(_written(program, form.body.body))
            self._known[id(form)] = form, depending
        return self._known[id(form)][1]

    def _of(self, program: ir.Program) -> Dependencies:
        if id(program.rules) not in self._dependencies:
            self._dependencies[id(program.rules)] = Dependencies(program)
        return self._dependencies[id(program.rules)]


def _written(program: ir.Program, body: object) -> dict[str, int]:
    """The bits that an instruction writes; `execute` makes RIP of NEXT_RIP."""
    bits = bits_written(program, (body, *(f.body for f in reachable_functions(program, [body]))))
    return {"RIP" if name == "NEXT_RIP" else name: mask for name, mask in bits.items()}


@dataclass(frozen=True, slots=True)
class Start:
    """The start state of the first run of a group, and what is promised there.

    Nothing is left from the instruction before: `cycle` has ended the blocking of interrupts.
    """

    settings: Settings
    promises: Promises
    dependencies: Dependencies
    holding: dict[str, Truth]
    is_unblocked: Truth
    shown: list[Run] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings, dependencies: Dependencies) -> Start:
        """All promises hold, but for policies with parameters, which the settings give at what is used."""
        promises, terms = Promises(settings.program, settings.terms), settings.terms
        plain = {one.name for one in promises.every if not one.predicate.parameters}
        is_unblocked = terms.negation(promises.ask(IS_AFTER, promises.saved(settings.first)))
        return cls(settings, promises, dependencies, promises.of_running(settings.first, plain), is_unblocked)

    def about(self, promises: Iterable[Promise]) -> Iterator[Truth]:
        """What is assumed of promises, with what else is; the group assumes the policies."""
        yield self.is_unblocked
        for one in promises:
            holds = self.holding.get(one.name, True)
            if holds is not True and not one.is_policy:
                yield holds

    def first_witnesses(self, run: Run, own: Sequence[Truth]) -> tuple[Witness, ...]:
        """The witnesses of the first instruction of the group, which shows it for the others."""
        if self.shown:
            return ()
        self.shown.append(run)
        return tuple(self.witnesses(run, own))

    def witnesses(self, run: Run, own: Iterable[Truth]) -> Iterator[Witness]:
        """That an instruction can run where all is assumed."""
        every = (*self.about(self.promises.every), *own)
        yield from witnesses_of(self.settings.terms, run, every)


def _goal(subject: Subject, start: Start, depending: Iterable[Promise]) -> Goal:
    terms, run = start.settings.terms, subject.proof.claims[0].left
    written = _written(start.settings.program, subject.form.body.body)
    claim = Claim(
        Theorem.INTEGRITY, run, run, True, list(_comparisons(terms, start, run, written, depending))
    )
    name = f"{GROUP}.{subject.form.name}"
    own = (*in_code(start.promises, start.settings.first, subject.symbols.length), *subject.proof.hypotheses)
    used = {**written, **bits_read(start.settings.program, subject.form.body.body)}
    assumed = terms.conjunction((*start.about(start.dependencies.beside(depending, used)), *own))
    explainer = InstructionExplainer(
        start.settings, subject.form.instruction.span, name, subject.symbols, subject.tools
    )
    return Goal(
        name,
        terms.truth(terms.implies(assumed, claim.conclusion(terms))),
        (),
        start.first_witnesses(run, own),
        partial(explainer.minimise, claim),
        partial(explainer.explain, claim),
        own_witnesses=lambda: tuple(start.witnesses(run, own)),
    )


def _comparisons(
    terms: Terms, start: Start, run: Run, written: Iterable[str], depending: Iterable[Promise]
) -> Iterator[Comparison]:
    """Each promise that is not the same term as before, for each way in which the run may end."""
    names = {one.name for one in depending if not one.predicate.parameters}
    simple = {name: _simple(start.holding[name]) for name in names}
    for condition, state in _ends(run, frozenset(written)):
        for name, holds in start.promises.of_running(state, names).items():
            if holds is not True and not terms.same(_simple(holds), simple[name]):
                yield Comparison(condition, name, (), True, holds, ir.BOOL, holds)


def _simple(truth: Truth) -> Truth:
    return truth if isinstance(truth, bool) else z3.simplify(truth)


def _ends(run: Run, written: frozenset[str]) -> Iterator[tuple[Truth, State]]:
    """How a run may end, as far as that changes anything that is written: RIP moves on only if it completes."""
    completed = run.completed
    if "RIP" in written:
        completed = completed.copy()
        completed.set("RIP", completed.get("NEXT_RIP"))
    others = ((one.condition, one.state) for one in run.left)
    for condition, state in ((run.completes, completed), (run.faults, run.faulted), *others):
        if condition is not False and not written.isdisjoint(state.changed):
            yield condition, state
