"""Shows that effects which a mutant puts in another order do not depend on each other: by what they read and write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from checks.mutate.operators import swapped
from checks.mutate.places import Mutant
from checks.mutate.tables import items_named
from checks.symbolic.values import width_of
from checks.walk import names_in, nodes, reachable_functions
from grammar import ir

INDEPENDENT = "proved: the two effects neither read nor write what the other writes"

_OTHER_EFFECTS = (ir.Forget, ir.Output, ir.Execute, ir.Dispatch, ir.WriteOperand, ir.OperandRead, ir.Holds)
"""What has other effects than on state, or depends on more than the state it names: nothing is shown of it."""


def is_independent(program: ir.Program, mutant: Mutant) -> bool:
    """Whether the mutant only makes two effects change places that do not depend on each other."""
    if mutant.operator != "reorder":
        return False
    named = items_named(program, mutant.kind, mutant.name)
    pairs = [pair for item in named.values() for pair in _pairs(item, mutant)]
    return bool(pairs) and all(_are_independent(program, first, second) for first, second in pairs)


def _pairs(item: object, mutant: Mutant) -> Iterator[tuple[ir.Stmt, ir.Stmt]]:
    """The neighbours that change places, in each copy of the text."""
    for block in _blocks(item):
        for first, second in pairwise(block):
            what = swapped(first, second)
            if second.span == mutant.span and what is not None and what[1] == mutant.description:
                yield first, second


def _blocks(item: object) -> Iterator[Sequence[ir.Stmt]]:
    for node in nodes(item):
        if isinstance(node, tuple) and node and isinstance(node[0], ir.Stmt):
            yield node


Place = tuple[str, tuple[int, ...] | None]
"""State or a memory, at constant indices or anywhere."""


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a statement does; `is_plain` if it only reads and writes state and memories, and raises nothing."""

    reads: frozenset[str]
    writes: frozenset[Place]
    is_plain: bool

    def disturbs(self, other: _Effect) -> bool:
        """Whether it writes what the other reads or writes."""
        return any(
            name in other.reads
            or any((name == n and None in (at, a)) or (name, at) == (n, a) for n, a in other.writes)
            for name, at in self.writes
        )


def _are_independent(program: ir.Program, first: ir.Stmt, second: ir.Stmt) -> bool:
    a, b = _effect(program, first), _effect(program, second)
    if not a.is_plain or not b.is_plain:
        return False
    return _lie_apart(first, second, a.reads | b.reads) or (not a.disturbs(b) and not b.disturbs(a))


def _lie_apart(first: ir.Stmt, second: ir.Stmt, read: frozenset[str]) -> bool:
    """Whether they write different bytes of one memory, at constant distances from one address, and do not read it."""
    if not isinstance(first, ir.WriteMemory) or not isinstance(second, ir.WriteMemory):
        return False
    (base, start), (other, place) = _distance(first.address), _distance(second.address)
    if (
        not isinstance(base, ir.Local)
        or base != other
        or first.memory != second.memory
        or first.memory in read
    ):
        return False
    whole = 1 << width_of(base.type)
    between = (place - start) % whole
    return width_of(first.value.type) // 8 <= between <= whole - width_of(second.value.type) // 8


def _distance(address: ir.Expr) -> tuple[ir.Expr, int]:
    """An address as another and a constant that is added."""
    if isinstance(address, ir.Binary) and address.op == "+" and isinstance(address.right, ir.Literal):
        return address.left, address.right.value
    return address, 0


def _effect(program: ir.Program, statement: ir.Stmt) -> _Effect:
    called = reachable_functions(program, [statement])
    bodies = (statement, *(function.body for function in called))
    names = [names_in(body) for body in bodies]
    updates = (_place(update) for one in names for update in one.updates)
    stores: Iterator[Place] = ((store.memory, None) for one in names for store in one.stores)
    is_plain = not any(isinstance(node, _OTHER_EFFECTS) for body in bodies for node in nodes(body))
    return _Effect(
        frozenset().union(*(one.reads for one in names)),
        frozenset((*updates, *stores)),
        is_plain
        and not any(one.raises for one in names)
        and not any(function.raises or function.cached for function in called),
    )


def _place(update: ir.WriteState) -> Place:
    indices = [one.value for one in update.indices if isinstance(one, ir.Literal)]
    return update.name, tuple(indices) if len(indices) == len(update.indices) else None
