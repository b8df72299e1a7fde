"""The VMCS that the VMM builds: what `start_vm` writes into a new one, run symbolically.

A field that `start_vm` gives a constant and that nothing else writes has that constant for ever. Theorems about guests
that run start from there; that the policy follows from it is proved by the family `host_state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import z3

from checks.emulation.machine import Machine, unknown_call, written_by
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import Cursor
from checks.symbolic.state import Source, State, Surroundings
from checks.symbolic.terms import Terms
from checks.symbolic.values import Point, Value, fresh
from checks.trap.initial import Symbols
from checks.walk import nodes
from grammar import ir

BOOT = "boot_vmm"
START = "start_vm"


@dataclass(slots=True)
class NewVmcs:
    """Initial values before a guest is made: its VMCS is all zero, everything else is arbitrary."""

    symbols: Symbols

    def scalar(self, variable: ir.StateVariable) -> Value:
        """Zero for a VMCS field, else a symbol."""
        return self.element(variable, ()) if variable.space != "vmcs" else 0

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """An unknown function at the point."""
        return self.symbols.value(variable.name, variable, point)


@dataclass(slots=True)
class Started:
    """A guest as `start_vm` leaves it, in a context: the states before and after, and the arguments of the calls."""

    terms: Terms
    before: State
    state: State
    calls: tuple[tuple[ir.Function, tuple[Value, ...]], ...]
    evaluator: Evaluator

    @property
    def arguments(self) -> Mapping[str, Value]:
        """The arguments of `start_vm` by name."""
        function, given = self.calls[-1]
        return {p.name: value for p, value in zip(function.parameters, given, strict=True)}


def started(program: ir.Program, context: z3.Context) -> Started:
    """Runs `start_vm` after what `boot_vmm` itself does; what else makes a guest gives it memory and devices."""
    terms = Terms(context)
    symbols = Symbols(terms)
    state = initial_state(program, terms, symbols, NewVmcs(symbols))
    called = {
        program.functions[n.function].source
        for n in nodes(program.functions[BOOT].body)
        if isinstance(n, ir.Call)
    }
    evaluator = Machine(program, terms, overrides=dict.fromkeys(called, unknown_call))
    cursor = Cursor(state.copy(), {})
    calls: list[tuple[ir.Function, tuple[Value, ...]]] = []
    for function in (program.functions[name] for name in (BOOT, START)):
        given = tuple(fresh(terms, f"{function.name}.{p.name}", p.type) for p in function.parameters)
        evaluator.call(function, given, cursor, [])
        calls.append((function, given))
    return Started(terms, state, cursor.state, tuple(calls), evaluator)


def initial_state(program: ir.Program, terms: Terms, symbols: Symbols, source: Source) -> State:
    """A state with the initial values of a source, and memories of any contents."""
    memories = {
        name: ByteMemory(terms, memory.address.width, partial(_byte, symbols, name, memory.address.width))
        for name, memory in program.memories.items()
    }
    return State(Surroundings(program, terms, source, dict(memories)))


def _byte(symbols: Symbols, name: str, width: int, address: z3.BitVecRef | int) -> z3.BitVecRef | int:
    return symbols.byte(name, address, width)


@dataclass(slots=True)
class Built:
    """The constant fields of every VMCS of a program, by name; empty for one without a VMM."""

    constants: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, program: ir.Program) -> Built:
        """Found by running `start_vm`, and by looking for who else writes."""
        if START not in program.functions or BOOT not in program.functions:
            return cls()
        state = started(program, z3.Context()).state
        others = written_while_running(program)
        found = {
            v.name: state.get(v.name)
            for v in program.state.values()
            if v.space == "vmcs" and v.name not in others
        }
        return cls({name: int(value) for name, value in found.items() if isinstance(value, int)})


def written_while_running(program: ir.Program) -> frozenset[str]:
    """What the machine and the VMM write while guests run: everything but what only making a guest does."""
    bodies: list[object] = [program.functions["run_one"].body]
    bodies += [program.functions[f"handle_{name}"].body for name in program.handlers]
    return written_by(program, bodies)
