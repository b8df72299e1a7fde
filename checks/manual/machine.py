"""An arbitrary machine, as an expectation reads it: registers, bits of registers, bytes of memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import z3

from checks.isolation.world import ArbitraryState
from checks.symbolic.memory import ByteMemory
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Terms, Vector
from checks.symbolic.values import Value, lifted
from checks.trap.concrete import Concrete
from grammar import ir

MEMORY = "PHYSICAL"


@dataclass(slots=True)
class Machine:
    """The state, the registers that were read, by name, and the bytes of memory, by address."""

    program: ir.Program
    terms: Terms
    state: State
    read: dict[str, z3.ExprRef] = field(default_factory=dict)
    bytes_read: list[tuple[z3.BitVecRef, z3.BitVecRef]] = field(default_factory=list)

    @classmethod
    def arbitrary(cls, program: ir.Program, context: z3.Context) -> Machine:
        """A machine of which nothing is known."""
        terms = Terms(context)
        width = program.memories[MEMORY].address.width
        first = partial(_byte, terms, terms.function(MEMORY, (width,), 8), width)
        memory = ByteMemory(terms, width, first)
        return cls(
            program, terms, State(Surroundings(program, terms, ArbitraryState(terms), {MEMORY: memory}))
        )

    def register(self, name: str) -> z3.BitVecRef:
        """A register or VMCS field, of its own width."""
        return cast(z3.BitVecRef, self._value(name, self.state.get(name)))

    def element(self, name: str, index: int) -> z3.BitVecRef:
        """One of several registers, such as the rights of a segment."""
        return cast(
            z3.BitVecRef, self._value(name, self.state.elements(name).read((index,)), f"{name}[{index}]")
        )

    def flag(self, name: str) -> z3.BoolRef:
        """A register that is true or false."""
        return cast(z3.BoolRef, self._value(name, self.state.get(name)))

    def read_values(self, concrete: Concrete) -> dict[str, int]:
        """The values of what was read, by item."""
        return {name: concrete.number(value) for name, value in self.read.items()}

    def read_memory(self, concrete: Concrete) -> dict[int, bytes]:
        """The bytes that were read."""
        return {concrete.number(a): bytes([concrete.number(value)]) for a, value in self.bytes_read}

    def byte(self, address: z3.BitVecRef) -> z3.BitVecRef:
        """The byte at a host-physical address of 64 bits."""
        found = self.terms.vector(cast(Vector, self.state.elements(MEMORY).read((address,))), 8)
        self.bytes_read.append((address, found))
        return found

    def _value(self, name: str, value: Value, shown: str = "") -> z3.ExprRef:
        found = lifted(self.terms, value, self.program.state[name].type)
        self.read[shown or name] = found
        return found


def _byte(terms: Terms, memory: z3.FuncDeclRef, width: int, address: Vector) -> Vector:
    return cast(Vector, terms.apply(memory, [terms.vector(address, width)]))


def all_of(conditions: Iterable[z3.BoolRef]) -> z3.BoolRef:
    """All conditions, at least one: SMT-LIB has no conjunction of a single one."""
    first, *others = conditions
    return z3.And(first, *others) if others else first


def any_of(conditions: Iterable[z3.BoolRef]) -> z3.BoolRef:
    """One of the conditions, at least one."""
    first, *others = conditions
    return z3.Or(first, *others) if others else first


def bit(value: z3.BitVecRef, number: int) -> z3.BoolRef:
    """Whether a bit is set."""
    return cast(z3.BoolRef, z3.Extract(number, number, value) == 1)


def bits(value: z3.BitVecRef, high: int, low: int) -> z3.BitVecRef:
    """Some bits as a number."""
    return z3.Extract(high, low, value)
