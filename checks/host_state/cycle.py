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

import z3

from checks.emulation.machine import Machine, written_by
from checks.host_state.built import Built
from checks.host_state.dependencies import ALL, Dependencies
from checks.host_state.instructions import IS_AFTER
from checks.host_state.promises import Promise, Promises
from checks.host_state.running import RunningGuest
from checks.symbolic.evaluate import Evaluator, Override
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import Initial, State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, fresh
from checks.theorem import Counterexample, Goal, Group
from checks.totality.havoc import Havoc, aborts_of
from checks.trap.contract import FAULT, LOADS, STORES, VM_EXIT
from checks.trap.initial import Symbols
from checks.trap.unknown import Unknowns
from grammar import ir

AROUND, DELIVERY = "host_state.cycle", "host_state.delivery"
"""The groups: what leaves the delivery of events open, and that itself."""
DELIVER, CANONICAL, EXECUTE = "deliver_event", "is_canonical", "execute"
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
        overrides = {CANONICAL: _unknown} if group == AROUND else {}
        guest = RunningGuest.of(self._program, terms, built, overrides)
        goals: list[Goal] = []
        for name, found in self._depending[group].items():
            wanted = {f"{group}.{name}.{p.name}": p for p in found}
            wanted = {one: p for one, p in wanted.items() if ids is None or one in ids}
            if wanted:
                goals += _goals(guest, self._depends, name, wanted)
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

    def instruction(self, _machine: Evaluator, cursor: Cursor, exits: Exits) -> None:
        """What any instruction may do."""
        bodies = [i.bodies for i in self.promises.program.instructions.values()]
        self._keep(f"{EXECUTE}!{len(self.begun)}", bodies, self.promises.program.aborts, cursor, exits)

    def deliver(
        self,
        _e: Evaluator,
        function: ir.Function,
        _arguments: tuple[Value, ...],
        cursor: Cursor,
        exits: Exits,
    ) -> None:
        """What the delivery of an event may do."""
        raised = self.havoc.aborts[function.name]
        self._keep(f"{function.name}!{len(self.begun)}", [function.body], raised, cursor, exits)

    def _keep(
        self, label: str, bodies: Sequence[object], raised: Iterable[str], cursor: Cursor, exits: Exits
    ) -> None:
        """Writes anything of which all promises hold, and then raises anything or not."""
        program, terms = self.promises.program, self.promises.terms
        self.begun.append((cursor.alive, cursor.state.copy(), label.startswith(EXECUTE)))
        symbols = Symbols(terms)
        for name in sorted(written_by(program, bodies) | {"RIP"}):
            variable = program.state[name]
            unknown = Initial(partial(symbols.value, f"{name}!{label}", variable))
            cursor.state.set(name, unknown if variable.indices else unknown.read(()))
        self.assumed.append(self.promises.of_running(cursor.state))
        evaluator = self.promises.evaluator
        for kind in sorted(raised):
            value = fresh(terms, f"{label}.{kind}", program.aborts[kind].type)
            evaluator.abort(kind, terms.bool_symbol(f"{label}.raises.{kind}"), value, cursor, exits)


def _goals(
    guest: RunningGuest, depends: Dependencies, name: str, wanted: Mapping[str, Promise]
) -> Iterator[Goal]:
    promises, terms, program = guest.promises, guest.promises.terms, guest.promises.program
    open_ = _Open(promises, Havoc(program, terms, aborts_of(program)))
    overrides: dict[str, Override] = {DELIVER: open_.deliver}
    if name == DELIVER:
        overrides = dict.fromkeys((*LOADS, *STORES), open_.havoc.call)
    machine = Machine(program, terms, overrides=overrides, instruction=open_.instruction)
    cursor, exits = Cursor(guest.state.copy(), {}), list[Exit]()
    function = program.functions[name]
    machine.call(function, tuple(fresh(terms, p.name, p.type) for p in function.parameters), cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    names = {one.name for one in wanted.values()}
    ends = [
        (f"where it {_WORDS[e.kind]}", e.condition, promises.of_running(e.state, names))
        for e in exits
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
        conclusion = terms.conjunction(places.values())
        explain = partial(_explain, name, one, terms, places)
        yield Goal(goal, terms.truth(conclusion), hypotheses, explain=explain)


def _unknown(
    evaluator: Evaluator, function: ir.Function, arguments: tuple[Value, ...], _cursor: Cursor, _exits: Exits
) -> Value:
    """Some condition on the arguments: what holds of any holds of this one, which solvers find hard."""
    known = [(argument, p.type) for argument, p in zip(arguments, function.parameters, strict=True)]
    return evaluator.terms.equal(Unknowns(evaluator.terms).vector(function.name, known, 1), 1, 1)


_WORDS: Mapping[str, str] = {RETURN: "returns", FAULT: "faults", VM_EXIT: "exits"}


def _unblocked(promises: Promises, state: State) -> Truth:
    """Nothing blocks interrupts, nor has been left behind otherwise by the instruction before."""
    return promises.terms.negation(promises.ask(IS_AFTER, promises.saved(state)))


def _explain(
    function: str, promise: Promise, terms: Terms, places: Mapping[str, Truth], model: z3.ModelRef
) -> Counterexample:
    broken = [
        text
        for text, holds in places.items()
        if z3.is_false(model.eval(terms.truth(holds), model_completion=True))
    ]
    return Counterexample(
        f"{function} does not keep {promise.name}",
        ("broken",),
        tuple((text,) for text in broken),
        promise.predicate.span,
    )
