"""The contract behind which handlers and the specification see the guest's memory.

An access of the specification to a linear address completes, or faults or exits: which is an unknown predicate of the
kind of access, the address and the size. Where it completes, it reads or writes the bytes of one linear memory.
A translation of the fast model is given only where the specification's access would complete and the address is
canonical, and otherwise refused as it likes. (`fastmodel/paging.py` has to keep this contract; that it does is tested
by `tests/test_fast_paging.py`.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import z3

from checks.symbolic.evaluate import Call, Override
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, width_of
from checks.trap.contract import FAULT, LINEAR
from checks.trap.unknown import Unknowns, zero
from grammar import ir

READS = frozenset({"load"})
UPDATES = frozenset({"load_for_update"})
WRITES = frozenset({"store"})
# What an instruction may have changed before it accesses memory: nothing that a translation depends on.
CHANGEABLE = frozenset({"GPR", "NEXT_RIP", LINEAR})

_ADDRESS = ir.Bits(64)


@dataclass(frozen=True, slots=True)
class Accesses:
    """Which accesses complete, and which are given by the fast model; `failures` collects when the former do not."""

    terms: Terms
    unknowns: Unknowns
    failures: list[Truth] = field(default_factory=list)

    def completes(self, address: Vector, size: int, *, is_written: bool) -> Truth:
        """Whether an access of the specification, of `size` bytes, neither faults nor exits."""
        return self._predicate("completes", address, size, is_written=is_written)

    def is_given(self, address: Vector, size: int, *, is_written: bool) -> Truth:
        """Whether the fast model has a place in this process for the access."""
        parts = (
            self._predicate("given", address, size, is_written=is_written),
            self.completes(address, size, is_written=is_written),
            is_canonical(self.terms, address),
        )
        return self.terms.conjunction(parts)

    def overrides(self) -> dict[str, Override]:
        """The specification's accesses under the contract; others, as to descriptor tables, are not part of it."""
        found: dict[str, Override] = {"locate": _outside, "load_system": _outside, "store_system": _outside}
        found |= dict.fromkeys((*READS, *UPDATES), self._load)
        found |= dict.fromkeys(WRITES, self._store)
        return found

    def _predicate(self, what: str, address: Vector, size: int, *, is_written: bool) -> Truth:
        name = f"{'write' if is_written else 'read'}_{size}.{what}"
        return self.terms.equal(self.unknowns.vector(name, [(address, _ADDRESS)], 1), 1, 1)

    def _load(self, call: Call) -> Value:
        address, width = (
            simple(cast(Vector, call.arguments[0])),
            width_of(cast(ir.Type, call.function.result)),
        )
        self._access(call, address, width, is_written=call.function.source in UPDATES)
        memory = call.state.surroundings.memories[LINEAR]
        return memory.read(call.state.elements(LINEAR), address, width)

    def _store(self, call: Call) -> None:
        address, value = simple(cast(Vector, call.arguments[0])), cast(Vector, call.arguments[1])
        width = width_of(call.function.parameters[1].type)
        self._access(call, address, width, is_written=True)
        memory = call.state.surroundings.memories[LINEAR]
        call.state.set(LINEAR, memory.write(call.state.elements(LINEAR), address, value, width))

    def _access(self, call: Call, address: Vector, width: int, *, is_written: bool) -> None:
        """Faults or exits, which is all one here, where the access does not complete."""
        if not CHANGEABLE.issuperset(call.state.changed):
            raise UnsupportedError("memory is accessed after a change that its translation may depend on")
        call.evaluator.touched.element(LINEAR, (address,))
        fails = self.terms.negation(self.completes(address, width // 8, is_written=is_written))
        self.failures.append(fails)
        call.abort(FAULT, fails, zero(call.evaluator.program.aborts[FAULT].type))


def simple(address: Vector) -> Vector:
    """An address as both sides write it: then the same one is the same term."""
    return address if isinstance(address, int) else cast(Vector, z3.simplify(address))


def is_canonical(terms: Terms, address: Vector) -> Truth:
    """Whether bits 63 to 47 are equal.  SDM 1 3.3.7.1"""
    low = terms.extract(address, 47, 0)
    return terms.equal(terms.extend(low, 48, 64, is_signed=True), address, 64)


def _outside(call: Call) -> Value:
    raise UnsupportedError(
        f"{call.function.source} is reached outside the contract (checks/fast/contract.py)"
    )
