"""What the terms say of the state after a run, beside what the reference left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from checks.agreement.contents import written
from checks.agreement.forms import End
from checks.agreement.reference import COMPLETES, After
from checks.agreement.start import Start
from checks.agreement.values import Unknowns
from checks.symbolic.values import leaves
from checks.trap.unknown import zero
from grammar import ir

Probes = Mapping[str, tuple[int, ...]]
"""The point at which indexed state or a memory is read, by name."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Compares ends of forms of one program; `unknowns` are those of the run at hand."""

    program: ir.Program
    unknowns: Unknowns

    def of(
        self, end: End, values: tuple[int, ...], start: Start, after: After, probes: Probes
    ) -> Iterator[str]:
        """Everything that is not the same: each register, element and byte that either side may have changed, what an
        abort carries, and the elements at the probed points.
        """
        if after.kind != COMPLETES:
            yield from self._carried(end, values, after)
        yield from _scalars(end, values, start, after)
        mine = {name: written(contents, values) for name, contents in end.contents.items()}
        for name, before in start.lists.items():
            expected = _replaced(before, mine.pop(name)) if name in mine else before
            if expected != after.lists[name]:
                yield from _elements(name, dict(enumerate(expected)), dict(enumerate(after.lists[name])))
        for name in {*mine, *after.written}:
            yield from self._written(name, mine.get(name, {}), after.written.get(name, {}))
        for name, place in end.elements.items():
            theirs = self._element(name, probes[name], after)
            if values[place] != theirs:
                yield _difference(f"{name}{list(probes[name])}", values[place], theirs)

    def _carried(self, end: End, values: tuple[int, ...], after: After) -> Iterator[str]:
        mine = [values[place] for place in end.carried]
        theirs = list(_flat(after.carried))
        if mine != theirs:
            type_ = self.program.aborts[after.kind].type
            names = [name for name, _, _ in leaves(zero(type_), type_)]
            yield from _unequal(zip(names, mine, theirs, strict=True))

    def _written(self, name: str, mine: dict[Any, int], theirs: dict[Any, int]) -> Iterator[str]:
        if mine != theirs:
            points = {*mine, *theirs}
            yield from _elements(
                name, *({p: self._first(name, p) for p in points} | one for one in (mine, theirs))
            )

    def _element(self, name: str, point: tuple[int, ...], after: After) -> int:
        index = point if len(point) > 1 else point[0]
        if name in after.lists:
            return after.lists[name][point[0]]
        theirs = after.written.get(name, {})
        return theirs[index] if index in theirs else self._first(name, index)

    def _first(self, name: str, index: Any) -> int:
        return self.unknowns.value(name, index if isinstance(index, tuple) else (index,))


def _scalars(end: End, values: tuple[int, ...], start: Start, after: After) -> Iterator[str]:
    expected = start.scalars | {name: values[place] for name, place in end.scalars.items()}
    mine = tuple(expected.values())
    if mine != after.scalars:
        yield from _unequal(zip(expected, mine, after.scalars, strict=True))


def _replaced(before: list[int], changes: dict[int, int]) -> list[int]:
    changed = before[:]
    for index, value in changes.items():
        changed[index] = value
    return changed


def _elements(name: str, mine: Mapping[Any, int], theirs: Mapping[Any, int]) -> Iterator[str]:
    return _unequal((_place(name, point), mine[point], theirs[point]) for point in mine)


def _place(name: str, point: Any) -> str:
    return f"{name}{list(point)}" if isinstance(point, tuple) else f"{name}[{point:#x}]"


def _unequal(compared: Iterable[tuple[str, int, int]]) -> Iterator[str]:
    return (_difference(name, mine, theirs) for name, mine, theirs in compared if mine != theirs)


def _difference(name: str, mine: int, theirs: int) -> str:
    return f"{name} is {int(mine):#x}, on the reference {int(theirs):#x}"


def _flat(value: Any) -> Iterator[int]:
    for part in value:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield int(part)
