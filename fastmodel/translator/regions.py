"""Which decoded instructions make a region: those that branch to each other, found by following links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fastmodel import loop
from fastmodel.compiler.primitives import field as read
from fastmodel.compiler.program import Instance
from fastmodel.decoded import CODE, DECODED_SIZE, LINK, NEXT

MOST_INSTRUCTIONS = 96


@dataclass(frozen=True)
class Routine:
    """A routine, and whether the next instruction of its trace may follow."""

    text: Instance
    falls_through: bool


@dataclass
class Region:
    """The routines of a region by place, in the order of its traces; where these begin, and which calls return to."""

    routines: dict[int, Instance] = field(default_factory=dict)
    heads: list[int] = field(default_factory=list)
    returns: list[int] = field(default_factory=list)


def collect(state: int, heads: list[int], codes: Mapping[int, Routine], before: Mapping[int, int]) -> Region:
    """The region around some traces.

    `codes` are the routines by the word that stands for them in a decoded instruction, `before` what stood in those
    where a region is entered now.
    """
    region = Region()
    waiting = list(heads)
    while waiting and len(region.routines) < MOST_INSTRUCTIONS:
        place = waiting.pop(0)
        if place in region.routines or place in region.heads:
            continue
        region.heads.append(place)
        for each, routine in _trace(place, codes, before):
            region.routines[each] = routine.text
            waiting += _successors(each, routine)
            back = _return_of_call(state, each, routine)
            if back != 0:
                waiting.append(back)
                region.returns.append(back)
    region.returns = [place for place in region.returns if place in region.heads]
    return region


def _trace(
    place: int, codes: Mapping[int, Routine], before: Mapping[int, int]
) -> Iterator[tuple[int, Routine]]:
    """The decoded instructions of a trace."""
    while True:
        routine = codes[before.get(place) or read(64, place + CODE)]
        yield place, routine
        if not routine.falls_through:
            return
        place += DECODED_SIZE


def _successors(place: int, routine: Routine) -> list[int]:
    """The trace at the target of a branch, if it was ever taken."""
    if routine.text.function not in (loop.branch, loop.end_of_trace):
        return []
    link = read(64, place + LINK)
    return [link] if link != 0 else []


def _return_of_call(state: int, place: int, routine: Routine) -> int:
    """The trace behind a branch that does not fall through: where a call returns to; 0 if there is none."""
    if routine.text.function is not loop.branch or routine.falls_through:
        return 0
    return loop.known_trace(state, read(64, place + NEXT))
