"""What each promise depends on, bit by bit, found from the text: it may name too much, never too little."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cached_property, reduce
from operator import and_
from typing import TypeAlias

from checks.host_state.promises import ENTER, LOAD, RECORD, SAVE, Promise, promises
from checks.walk import children, names_in, nodes, reachable_functions
from grammar import ir

Bits: TypeAlias = Mapping[str, int]
"""Bits of state by name, as masks; of an indexed variable those of any element."""

ALL = -1
"""Every bit."""


class Dependencies:
    """The promises of a program, and which of them a change of state may break."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self.every = promises(program)
        self._read = {one.name: bits_read(program, one.predicate.condition) for one in self.every}

    def at_waiting(self, changed: Bits) -> tuple[Promise, ...]:
        """The promises about a guest that waits that a change of those bits may break."""
        return tuple(p for p in self.every if _meet(changed, self._waiting[p.name]))

    def at_running(self, changed: Bits) -> tuple[Promise, ...]:
        """The promises about a guest that runs that a change of those bits may break."""
        return tuple(p for p in self.every if _meet(changed, self._running[p.name]))

    def beside(self, some: Iterable[Promise], used: Container[str]) -> tuple[Promise, ...]:
        """What is assumed of a guest that runs where some promises are to be kept by what uses that state.

        These are the promises about the same state, and those about registers that are all used.
        """
        read = frozenset[str]().union(*(self._read[one.name] for one in some))
        return tuple(
            p
            for p in self.every
            if not read.isdisjoint(self._read[p.name]) or all(n in used for n in self._registers(p))
        )

    def _registers(self, promise: Promise) -> Iterator[str]:
        state = self._program.state
        reached = self._running[promise.name]
        return (name for name in reached if name in state and state[name].space == "register")

    @cached_property
    def _waiting(self) -> Mapping[str, Bits]:
        """For each promise by name what it depends on, about a guest that waits."""
        entry = _influences(self._program, (ENTER, LOAD))
        return {p.name: self._reached(p, entry if p.is_policy else {}) for p in self.every}

    @cached_property
    def _running(self) -> Mapping[str, Bits]:
        """The same about a guest that runs."""
        left = _influences(self._program, (RECORD, SAVE))
        return {p.name: self._reached(p, {} if p.is_policy else left) for p in self.every}

    def _reached(self, promise: Promise, influences: Mapping[str, list[Influence]]) -> Bits:
        """What the promise reads, and what decides on that through what is written in between."""
        reached, pending = dict[str, int](), list(self._read[promise.name].items())
        while pending:
            name, mask = pending.pop()
            if mask & ~reached.get(name, 0):
                reached[name] = reached.get(name, 0) | mask
                pending += _sources(influences.get(name, ()), mask)
        return reached


def _meet(changed: Bits, read: Bits) -> bool:
    return any(read.get(name, 0) & mask for name, mask in changed.items())


Influence: TypeAlias = tuple[int, str, int | None]
"""Bits that are written, and the bits of an item that decide on them; None if they are a copy of the same bits."""


def _sources(influences: Iterable[Influence], mask: int) -> Iterator[tuple[str, int]]:
    for written, name, read in influences:
        if written & mask:
            yield name, (written & mask if read is None else read)


def _influences(program: ir.Program, functions: tuple[str, ...]) -> dict[str, list[Influence]]:
    """What decides on each item that functions write."""
    found: dict[str, list[Influence]] = {}
    for name in functions:
        _add_influences(program, program.functions[name].body, found)
    return found


def _add_influences(program: ir.Program, root: object, found: dict[str, list[Influence]]) -> None:
    """The same for one body. What conditions, locals and arguments are made from counts for all that it writes."""
    below = list(_below(program, root))
    decisive: list[object] = [n.condition for n in below if isinstance(n, ir.If)]
    decisive += [n.value for n in below if isinstance(n, ir.SetLocal)]
    decisive += [argument for n in below if isinstance(n, ir.Call) for argument in n.arguments]
    common = [(ALL, name, mask) for name, mask in bits_read(program, tuple(decisive)).items()]
    for node in below:
        if isinstance(node, ir.WriteState):
            own = [(mask, *source) for mask, part in _parts(node) for source in _copied(program, part)]
            found.setdefault(node.name, []).extend([*common, *own])


def _parts(node: ir.WriteState) -> Iterator[tuple[int, ir.Expr]]:
    """The bits that a write changes, and what they become."""
    if isinstance(node.value, ir.UpdateBits) and _is_item(node.value.base, node):
        yield from (((2 << high) - (1 << low), value) for high, low, value in node.value.changes)
    else:
        yield ALL, node.value


def _is_item(value: ir.Expr, node: ir.WriteState) -> bool:
    """Whether a value is what the write replaces."""
    return isinstance(value, ir.Read) and value.name == node.name and value.indices == node.indices


def _copied(program: ir.Program, value: ir.Expr) -> Iterator[tuple[str, int | None]]:
    if isinstance(value, ir.Read):
        yield value.name, None
    else:
        yield from bits_read(program, value).items()


def _below(program: ir.Program, body: object) -> Iterator[object]:
    """All that stands in a body and in what it calls."""
    for one in (body, *(f.body for f in reachable_functions(program, [body]))):
        yield from nodes(one)


def bits_read(program: ir.Program, body: object) -> dict[str, int]:
    """The bits of state and memories that a body reads, in what it calls too."""
    found: dict[str, int] = {}
    for one in (body, *(f.body for f in reachable_functions(program, [body]))):
        _collect(one, found)
    return found


def _collect(node: object, found: dict[str, int]) -> None:
    if isinstance(node, ir.Slice) and isinstance(node.base, ir.Read):
        found[node.base.name] = found.get(node.base.name, 0) | (2 << node.high) - (1 << node.low)
        _collect(node.base.indices, found)
        return
    if isinstance(node, ir.Bit) and isinstance(node.base, ir.Read) and isinstance(node.index, ir.Literal):
        found[node.base.name] = found.get(node.base.name, 0) | 1 << node.index.value
        _collect(node.base.indices, found)
        return
    if isinstance(node, ir.Read):
        found[node.name] = ALL
    if isinstance(node, ir.ReadMemory):
        found[node.memory] = ALL
    for child in children(node):
        _collect(child, found)


def bits_written(program: ir.Program, bodies: Iterable[object]) -> dict[str, int]:
    """The bits of state that statements may change, callees not included."""
    found: dict[str, int] = {}
    for body in bodies:
        for node in names_in(body).updates:
            found[node.name] = found.get(node.name, 0) | ~_kept(program, node.value, node)
    return found


def _kept(program: ir.Program, value: ir.Expr, node: ir.WriteState) -> int:
    """The bits of a value that are surely those of the item that it is written to."""
    match value:
        case ir.UpdateBits(base=base, changes=changes):
            changed = (~((2 << high) - (1 << low)) for high, low, _ in changes)
            return reduce(and_, changed, _kept(program, base, node))
        case ir.Conditional():
            return _kept(program, value.then, node) & _kept(program, value.otherwise, node)
        case ir.Call(function=name) if not program.functions[name].writes:
            results = (n.value for n in nodes(program.functions[name].body) if isinstance(n, ir.Return))
            return reduce(and_, (_kept(program, one, node) for one in results if one is not None), ALL)
        case _:
            return ALL if _is_item(value, node) else 0
