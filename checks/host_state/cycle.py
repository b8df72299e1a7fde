"""`host_state.cycle.…`, `host_state.delivery.…`: what the processor does around instructions keeps the promises.

The functions are `cycle`, `inject_event`, which follows a VM entry, and `deliver_event`. From a running guest of which
all promises hold, each promise holds again wherever the function ends: it returns, faults or exits. Instructions and,
in the first two, `deliver_event` are left open: they do anything that their text allows, but keep the promises, if all
promises hold where they begin, and nothing blocks interrupts where an instruction does, which is part of the goals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import z3

from checks.emulation.machine import Machine, written_by
from checks.host_state.built import Built
from checks.host_state.dependencies import ALL, Dependencies
from checks.host_state.explain import KIND
from checks.host_state.instructions import IS_AFTER
from checks.host_state.promises import Promise, Promises
from checks.host_state.running import RunningGuest
from checks.symbolic.evaluate import Call, Evaluator, Override
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, fresh, key
from checks.theorem import Goal, Group
from checks.totality.havoc import EXECUTE, Havoc, aborts_of, written_by_instructions
from checks.totality.open_run import OpenRun, made_by
from checks.trap.contract import FAULT, LOADS, STORES, VM_EXIT
from checks.trap.unknown import Unknowns
from grammar import ir

AROUND, DELIVERY = "host_state.cycle", "host_state.delivery"
"""The groups: what leaves the delivery of events open, and that itself."""
DELIVER, CANONICAL = "deliver_event", "is_canonical"
FUNCTIONS = {AROUND: ("cycle", "inject_event"), DELIVERY: (DELIVER,)}


class CycleGoals:
    """What the goals about a program are, and their terms."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        depends = self._depends = Dependencies(program)
        self._depending = {
            group: {
                name: depends.at_running(dict.fromkeys(self._written(program.functions[name]), ALL))
                for name in names
                if name in program.functions
            }
            for group, names in FUNCTIONS.items()
        }

    def ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of the goals, by group."""
        return {
            group: tuple(f"{group}.{name}.{one.name}" for name, found in functions.items() for one in found)
            for group, functions in self._depending.items()
        }

    def build(self, group: str, context: z3.Context, built: Built, ids: frozenset[str] | None) -> Group:
        """The goals of one of the groups: those of `ids`, or all."""
        terms = Terms(context)
        canonical = _Condition()
        overrides: dict[str, Override] = {CANONICAL: canonical.call} if group == AROUND else {}
        guest = RunningGuest.of(self._program, terms, built, overrides)
        goals: list[Goal] = []
        for name, found in self._depending[group].items():
            wanted = {f"{group}.{name}.{p.name}": p for p in found}
            wanted = {one: p for one, p in wanted.items() if ids is None or one in ids}
            if wanted:
                goals += _goals(guest, self._depends, name, wanted, canonical)
        assumed = (terms.truth(one) for one in guest.holding.values() if one is not True)
        return Group(group, context, tuple(goals), tuple(assumed))

    def _written(self, function: ir.Function) -> frozenset[str]:
        bodies: list[object] = [function.body]
        if function.name != DELIVER:
            bodies += [i.bodies for i in self._program.instructions.values()]
        return written_by(self._program, bodies) | {"RIP"}


@dataclass(slots=True)
class _Open:
    """What is left open: `assumed` says that it keeps the promises, `begun` are the states that it begins in."""

    promises: Promises
    havoc: Havoc
    assumed: list[dict[str, Truth]] = field(default_factory=list)
    begun: list[tuple[Truth, State, bool]] = field(default_factory=list)

    def missed(self, run: OpenRun) -> Iterator[Truth]:
        """That a part would begin, but is not come to on any way to an end, for each."""
        terms = self.promises.terms
        for number, (condition, _, _) in enumerate(self.begun):
            made = terms.disjunction(
                terms.conjunction((e.condition, terms.equal(made_by(e, number), 1, 8))) for e in run.ends
            )
            yield terms.conjunction((condition, terms.negation(made)))

    def instruction(self, machine: Evaluator, cursor: Cursor, exits: Exits) -> None:
        """What any instruction may do."""
        program = self.promises.program
        self._keep(EXECUTE, written_by_instructions(program), program.aborts, machine, cursor, exits)

    def deliver(self, call: Call) -> None:
        """What the delivery of an event may do."""
        name, written = call.function.name, written_by(self.promises.program, [call.function.body])
        self._keep(name, written, self.havoc.aborts[name], call.evaluator, call.cursor, call.exits)

    def _keep(
        self,
        name: str,
        written: frozenset[str],
        raised: Iterable[str],
        machine: Evaluator,
        cursor: Cursor,
        exits: Exits,
    ) -> None:
        """Writes anything of which all promises hold, and then raises anything or not."""
        self.begun.append((cursor.alive, cursor.state.copy(), name == EXECUTE))
        call = self.havoc.begin(name, cursor)
        self.havoc.write(call, written | {"RIP"}, cursor)
        self.assumed.append(self.promises.of_running(cursor.state))
        self.havoc.raise_any(call, machine, raised, cursor, exits)


def _goals(
    guest: RunningGuest,
    depends: Dependencies,
    name: str,
    wanted: Mapping[str, Promise],
    canonical: _Condition,
) -> Iterator[Goal]:
    promises, terms = guest.promises, guest.promises.terms
    run, open_ = _run(guest, name)
    names = {one.name for one in wanted.values()}
    ends = [
        (f"where it {_WORDS[e.kind]}", e.condition, promises.of_running(e.state, names))
        for e in run.ends
        if e.kind in _WORDS
    ]
    begun = [
        (f"where part {n} begins", condition, promises.of_running(state, names))
        for n, (condition, state, _) in enumerate(open_.begun)
    ]
    blocked = {
        f"where part {n} begins: interrupts are blocked": terms.implies(
            condition, _unblocked(promises, state)
        )
        for n, (condition, state, is_instruction) in enumerate(open_.begun)
        if is_instruction
    }
    for goal, one in wanted.items():
        beside = [p.name for p in depends.beside([one], ())]
        kept = (holding[p] for holding in open_.assumed for p in beside)
        hypotheses = tuple(terms.truth(each) for each in kept if each is not True)
        places = {text: terms.implies(c, holding[one.name]) for text, c, holding in (*ends, *begun)} | blocked
        summary = f"{name} does not keep {one.name}"
        yield Goal(
            goal,
            terms.truth(terms.conjunction(places.values())),
            hypotheses,
            run.witnesses(),
            minimise=partial(_minimise, canonical, run, open_),
            explain=partial(run.broken, KIND, goal, places, summary, one.predicate.span, claim=one.name),
        )


def _run(guest: RunningGuest, name: str) -> tuple[OpenRun, _Open]:
    """The run of a function, and what it leaves open."""
    promises, terms, program = guest.promises, guest.promises.terms, guest.promises.program
    open_ = _Open(promises, Havoc(program, terms, aborts_of(program)))
    overrides: dict[str, Override] = {DELIVER: open_.deliver}
    if name == DELIVER:
        overrides = dict.fromkeys((*LOADS, *STORES), open_.havoc.call)
    machine = Machine(program, terms, overrides=overrides, instruction=open_.instruction)
    cursor, exits = Cursor(guest.state.copy(), {}), list[Exit]()
    function = program.functions[name]
    arguments = tuple(fresh(terms, p.name, p.type) for p in function.parameters)
    machine.call(function, arguments, cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    used = (machine, promises.evaluator)
    return OpenRun(function, arguments, guest.state, open_.havoc, exits, used), open_


@dataclass(slots=True)
class _Condition:
    """Some condition on the arguments of a function: what holds of any holds of this one, which solvers find hard.

    `asked` are the answers, with the arguments.
    """

    asked: dict[object, tuple[Truth, ir.Function, tuple[Value, ...]]] = field(default_factory=dict)

    def call(self, call: Call) -> Value:
        """The condition, in place of the function's result."""
        terms = call.evaluator.terms
        answer = terms.equal(Unknowns(terms).vector(call.function.name, call.typed_arguments, 1), 1, 1)
        self.asked[key(answer)] = answer, call.function, call.arguments
        return answer

    def mistakes(self, run: OpenRun) -> Iterator[Truth]:
        """That an answer is not what the function says, for each."""
        terms = run.start.surroundings.terms
        plain = Evaluator(run.start.surroundings.program, terms)
        for answer, function, arguments in self.asked.values():
            said = plain.call(function, arguments, Cursor(run.start.copy(), {}), [])
            yield terms.negation(terms.equivalent(answer, cast(Truth, said)))


def _minimise(canonical: _Condition, run: OpenRun, open_: _Open) -> Sequence[z3.ExprRef]:
    """First what a counterexample that replays does not have.

    That is what the specification does not call canonical, and parts that begin on a way that is not taken: in a
    branch, conditions are relative to it, and the theorem says more than it has to.
    """
    first = (*canonical.mistakes(run), *open_.missed(run))
    return [*(one for one in first if isinstance(one, z3.ExprRef)), *run.minimise()]


_WORDS: Mapping[str, str] = {RETURN: "returns", FAULT: "faults", VM_EXIT: "exits"}


def _unblocked(promises: Promises, state: State) -> Truth:
    """Nothing blocks interrupts, nor has been left behind otherwise by the instruction before."""
    return promises.terms.negation(promises.ask(IS_AFTER, promises.saved(state)))
