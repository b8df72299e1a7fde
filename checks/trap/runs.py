"""Runs an instruction form in the three settings that the theorems compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits, Paths
from checks.symbolic.state import Source, State, Surroundings
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Record, Value, key
from checks.trap.contract import FAULT, LINEAR, VM_EXIT, Contract
from checks.trap.initial import BareSource, GuestSource, Symbols
from checks.trap.ownership import Ownership
from checks.trap.unknown import Unknowns
from grammar import ir

LINEAR_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of one run: it completes, faults or exits, under conditions that exclude each other.

    `completed` and `faulted` are the states after it in the first two cases, `fault` is what was raised, None if it
    cannot fault. `aborts` are the conditions under which accesses to memory fault or exit, and
    `violations` those of them under which they exit. `left` are the VM exits, each with its state.
    """

    evaluator: Evaluator
    start: State
    completes: Truth
    faults: Truth
    exits: Truth
    fault: Record | None
    completed: State
    faulted: State
    aborts: tuple[Truth, ...]
    violations: tuple[Truth, ...] = ()
    left: tuple[Exit, ...] = ()


Act = Callable[[Evaluator, Cursor, Exits], None]
"""What a run does: evaluates something on the cursor."""


@dataclass(slots=True)
class Settings:
    """The initial states of one group: `first` and `second` in VMX non-root mode, and `bare`.

    `mode` is the register that says which.
    """

    program: ir.Program
    terms: Terms
    symbols: Symbols
    first: State
    second: State
    bare: State
    contract: Contract
    mode: str

    @classmethod
    def create(cls, ownership: Ownership, terms: Terms, known: Mapping[str, Value] | None = None) -> Settings:
        """Fresh symbols in the context of the terms; `known` is state that the first two runs start with."""
        program = ownership.program
        symbols = Symbols(terms)
        guard = program.aborts[VM_EXIT].guard
        assert isinstance(guard, ir.Read)
        first, second = (
            _guest_state(program, terms, symbols, secret, guard.name) for secret in ("first", "second")
        )
        for name, value in (known or {}).items():
            first.set(name, value)
            second.set(name, value)
        source = BareSource(symbols, Evaluator(program, terms), first, guard.name)
        bare = _state(program, terms, symbols, source)
        settings = cls(
            program,
            terms,
            symbols,
            first,
            second,
            bare,
            Contract(program, ownership.inputs, Unknowns(terms)),
            guard.name,
        )
        for one, *others in settings.translation_inputs(ownership):
            settings.contract.alike.update(
                (key(other), one) for other in (one, *others) if isinstance(other, z3.AstRef)
            )
        return settings

    def translation_inputs(
        self, ownership: Ownership, evaluator: Evaluator | None = None
    ) -> list[tuple[Value, Value, Value]]:
        """Each input of translation in the three initial states; `trap.translation` proves that they are equal."""
        machine = evaluator if evaluator is not None else Evaluator(self.program, self.terms)
        return [
            (machine.pure(one, self.first), machine.pure(one, self.second), machine.pure(one, self.bare))
            for one in ownership.all_inputs()
        ]

    def run(self, start: State, act: Act) -> Run:
        """What `act` does from a state."""
        evaluator = Evaluator(self.program, self.terms, overrides=self.contract.overrides())
        cursor, exits = Cursor(start.copy(), {}), list[Exit]()
        faulting, violating = len(self.contract.faults), len(self.contract.violations)
        act(evaluator, cursor, exits)
        cursor.leave(RETURN, None, None, exits)
        paths = Paths(self.terms)
        scope = Cursor(start, {})
        returned = [e for e in exits if e.kind == RETURN]
        completed = paths.merge_exits(returned, None, scope) if returned else None
        fault = evaluator.merge_aborts(exits, FAULT, scope)
        completes = completed.condition if completed is not None else False
        return Run(
            evaluator,
            start,
            completes,
            fault.condition if fault is not None else False,
            self.terms.disjunction(e.condition for e in exits if e.kind == VM_EXIT),
            cast(Record, fault.value) if fault is not None else None,
            completed.state if completed is not None else start,
            fault.state if fault is not None else start,
            (*self.contract.faults[faulting:], *self.contract.violations[violating:]),
            tuple(self.contract.violations[violating:]),
            tuple(e for e in exits if e.kind == VM_EXIT),
        )

    def promises(self, evaluator: Evaluator | None = None) -> list[tuple[str, Truth]]:
        """The VMM's policies without parameters, about both initial states in VMX non-root mode."""
        machine = evaluator if evaluator is not None else Evaluator(self.program, self.terms)
        return [
            (policy.name, cast(Truth, machine.pure(policy.condition, start)))
            for policy in self.program.policies.values()
            if not policy.parameters
            for start in (self.first, self.second)
        ]

    def instances(self, run: Run) -> list[tuple[str, Truth]]:
        """The policies with parameters, about a run's initial state, at every value that the run used."""
        evaluator = Evaluator(self.program, self.terms)
        return [
            (policy.name, cast(Truth, evaluator.pure(policy.condition, run.start, **bindings)))
            for policy in self.program.policies.values()
            if policy.parameters
            for bindings in _bindings(policy, run.evaluator)
        ]


def _guest_state(program: ir.Program, terms: Terms, symbols: Symbols, secret: str, mode: str) -> State:
    source = GuestSource(symbols, secret, Evaluator(program, terms), mode)
    source.state = _state(program, terms, symbols, source)
    return source.state


def _state(program: ir.Program, terms: Terms, symbols: Symbols, source: Source) -> State:
    """A state whose memories are the guest's linear memory and, shared by all runs, the VMM's physical one."""
    widths = {name: memory.address.width for name, memory in program.memories.items()}
    widths[LINEAR] = LINEAR_WIDTH
    memories = {
        name: ByteMemory(terms, width, _bytes(symbols, name, width)) for name, width in widths.items()
    }
    return State(Surroundings(program, terms, source, dict(memories)))


def _bytes(symbols: Symbols, name: str, width: int) -> Callable[[Vector], Vector]:
    return lambda address: symbols.byte(name, address, width)


def _bindings(policy: ir.Predicate, evaluator: Evaluator) -> list[dict[str, Value]]:
    """The bindings of a policy's parameters to instantiate it with: used values of the same name and type."""
    used = evaluator.touched.arguments
    choices = [[(p.name, v) for v in used.get((p.name, p.type), {}).values()] for p in policy.parameters]
    return [dict(choice) for choice in product(*choices)]
