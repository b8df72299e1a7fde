"""Which goals a command line asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from checks.extract import Roots
from checks.theorem import Family, Outline
from grammar.ir import Program


@dataclass(frozen=True, slots=True)
class Task:
    """Goals of one group, to be proved by one process.

    `ids` are those that are wanted, `roots` those of the outline. `key` is the digest by which the cache knows the
    group, empty if there is no cache.
    """

    family: str
    group: str
    ids: frozenset[str]
    roots: Roots | None = None
    key: bytes = b""


class NoMatchError(Exception):
    """A pattern that fits no goal; the message says which, and what there is."""


def select(program: Program, families: Mapping[str, Family], patterns: Sequence[str]) -> list[Task]:
    """The tasks for the patterns, all goals if there are none; lemmas that they rest on come along."""
    outlines = [(name, outline) for name, family in families.items() for outline in family.outlines(program)]
    ids = [one for _, outline in outlines for one in outline.ids]
    wanted = {one for pattern in patterns for one in _matching(pattern, ids)} if patterns else set(ids)
    wanted |= _required(outlines, wanted)
    tasks = [
        Task(name, outline.group, frozenset(wanted.intersection(outline.ids)), outline.roots)
        for name, outline in outlines
    ]
    return [task for task in tasks if task.ids]


def in_order(tasks: Iterable[Task], seed: int | None) -> list[Task]:
    """The order to prove tasks in: a random one with a seed, else the largest first, so that processes end together.

    Those that are made from the whole program are the largest, then those with the most goals.
    """
    if seed is None:
        return sorted(tasks, key=lambda task: (task.roots is not None, -len(task.ids)))
    shuffled = list(tasks)
    Random(seed).shuffle(shuffled)
    return shuffled


def _matching(pattern: str, ids: Iterable[str]) -> list[str]:
    """Goals that a glob, an id or the beginning of ids up to a dot or slash stands for.

    The family may be left out: `CLTS` is what all families say of CLTS.
    """
    found = [
        one
        for one in ids
        if fnmatchcase(one, pattern) or _is_part(pattern, one) or _is_part(pattern, one.partition(".")[2])
    ]
    if not found:
        raise NoMatchError(f"no theorem matches '{pattern}' (`nonroot list theorems` lists them)")
    return found


def _is_part(beginning: str, name: str) -> bool:
    return name == beginning or name.startswith((f"{beginning}.", f"{beginning}/"))


def _required(outlines: Iterable[tuple[str, Outline]], wanted: set[str]) -> set[str]:
    return {one for _, outline in outlines if not wanted.isdisjoint(outline.ids) for one in outline.requires}
