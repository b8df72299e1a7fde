"""Putting machines back, and comparing them, without copying what has not changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from checks.fuzz.difference import Difference
from checks.walk import nodes, reachable_functions
from grammar import ir
from grammar.ir import Program
from refmodel.generate.names import cache_attribute

SCRATCH = frozenset({"NEXT_RIP", "SINGLE_STEP"})  # registers that mean nothing between two instructions


class View:
    """Which attributes of a machine hold its registers, and the VMM's variables, and which of a VMCS its fields; reads
    all at once.
    """

    def __init__(self, program: Program) -> None:
        variables = [*program.state_in("register"), *program.state_in("state")]
        registers = [v for v in variables if v.name not in SCRATCH]
        self.plain = tuple(v.name for v in variables if not v.indices)
        self.indexed = tuple(v.name for v in variables if v.indices)
        cached = [function for function in program.functions.values() if function.cached]
        self.caches = tuple(cache_attribute(function.name) for function in cached)
        roots = [function.body for function in cached]
        bodies = [*roots, *(f.body for f in reachable_functions(program, roots, frozenset()))]
        reads = {n.name for body in bodies for n in nodes(body) if isinstance(n, ir.Read)}
        # What decides about a translation, apart from the tables in memory.
        self.read_deciding = attrgetter(*(name for name in self.plain if name in reads))
        self.fields = tuple(v.name for v in program.state_in("vmcs"))
        self.registers = tuple(v.name for v in registers)
        self.read_plain = attrgetter(*self.plain)
        self.read_fields = attrgetter(*self.fields)
        self.read_registers = attrgetter(*self.registers)


class Snapshot:
    """A machine as it is now, with recording memory: what `restore` puts it back to, as often as one likes."""

    def __init__(self, machine: Any, view: View) -> None:
        machine.PHYSICAL.keep()
        self._machine = machine
        self._view = view
        self._plain = view.read_plain(machine)
        self._indexed = [(name, getattr(machine, name).copy()) for name in view.indexed]
        self._vmcs = machine.vmcs
        self._fields = view.read_fields(machine.vmcs)
        self._deciding = view.read_deciding(machine)

    def restore(self, tables: Sequence[range]) -> None:
        """Puts the machine back.

        Cached results stay if nothing that they depend on has changed: no word in the page tables' ranges either.
        """
        m, view = self._machine, self._view
        self.forget_stale(tables)
        m.PHYSICAL.undo()
        for name, value in zip(view.plain, self._plain, strict=True):
            setattr(m, name, value)
        for name, kept in self._indexed:
            now = getattr(m, name)
            if now != kept:
                _put_back(now, kept)
        m.vmcs = self._vmcs
        if view.read_fields(m.vmcs) != self._fields:
            for name, value in zip(view.fields, self._fields, strict=True):
                setattr(m.vmcs, name, value)

    def forget_stale(self, tables: Sequence[range]) -> None:
        """Empties the caches if anything that they depend on is not as it was: a case may set it from outside."""
        m, view = self._machine, self._view
        is_same = view.read_deciding(m) == self._deciding and view.read_fields(self._vmcs) == self._fields
        if not is_same or any(address in table for address, _ in m.PHYSICAL.changes() for table in tables):
            for cache in view.caches:
                getattr(m, cache).clear()


def _put_back(now: Any, kept: Any) -> None:
    """Gives a list or a dictionary its earlier content; engines hold on to the object."""
    if isinstance(now, list):
        now[:] = kept
    else:
        now.clear()
        now.update(kept)


def differences(left: Any, right: Any, view: View) -> Iterator[Difference]:
    """The registers, VMCS fields and words of memory in which two machines differ, `left` being the reference.

    Both machines started from one state, and their memories record what they change.
    """
    yield from register_differences(left, right, view)
    changed = {address for m in (left, right) for address, _ in m.PHYSICAL.changes()}
    for address in sorted(changed):
        a, b = left.PHYSICAL.read_64(address), right.PHYSICAL.read_64(address)
        if a != b:
            yield Difference(f"PHYSICAL[{address:#x}]", a, b)


def register_differences(left: Any, right: Any, view: View) -> Iterator[Difference]:
    """The registers and VMCS fields in which two machines differ, `left` being the reference."""
    first, second = view.read_registers(left), view.read_registers(right)
    if first != second:
        for name, a, b in zip(view.registers, first, second, strict=True):
            yield from _value_differences(name, a, b)
    first, second = view.read_fields(left.vmcs), view.read_fields(right.vmcs)
    if first != second:
        for name, a, b in zip(view.fields, first, second, strict=True):
            yield from _value_differences(name, a, b)


def _value_differences(name: str, first: Any, second: Any) -> Iterator[Difference]:
    if first == second:
        return
    if not isinstance(first, list | dict):
        yield Difference(name, int(first), int(second))
        return
    keys = range(len(first)) if isinstance(first, list) else sorted({*first, *second})
    for key in keys:
        if first[key] != second[key]:
            index = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
            yield Difference(f"{name}[{index}]", int(first[key]), int(second[key]))
