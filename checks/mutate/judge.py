"""Runs the theorems that could notice a mutant, until one fails."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import z3

from checks.families import build_alone
from checks.mutate.places import Mutant, mutated
from checks.mutate.reach import Reached
from checks.solve import Cache, GroupRunner, Limits
from checks.symbolic.expressions import UnsupportedError
from checks.theorem import Goal, Group, Status
from grammar import ir


class Fate(enum.StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    VACUOUS = "vacuous"  # a theorem's assumptions became unsatisfiable, which fails the run as well
    REJECTED = "rejected"  # the theorems cannot be stated any more
    EQUIVALENT = "equivalent"
    EXPLAINED = "explained"  # survived for a reason that is listed or proved
    SURVIVED = "survived"
    UNKNOWN = "unknown"  # the solver gave up
    UNREACHED = "unreached"  # no theorem is about the place

    @property
    def is_caught(self) -> bool:
        """Whether `nonroot prove` would fail."""
        return self in (Fate.KILLED, Fate.VACUOUS, Fate.REJECTED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of a mutant; `by` is the theorem that noticed it or the reason for its equivalence."""

    mutant: Mutant
    fate: Fate
    by: str = ""
    seconds: float = 0.0
    groups: int = 0


LIMITS = Limits(seconds=20.0)


def judge(
    program: ir.Program, mutant: Mutant, groups: Sequence[Reached], cache: Cache | None = None
) -> Verdict:
    """The first theorem of these groups that fails for a mutant; SURVIVED if none does.

    Many questions are those of the specification without the fault: the cache has the answers.
    """
    start = time.monotonic()
    if not groups:
        return Verdict(mutant, Fate.UNREACHED)
    changed = mutated(program, mutant)
    is_open = False
    for number, reached in enumerate(groups, start=1):
        for fate, by in _failures(changed, reached, cache):
            if fate.is_caught:
                return Verdict(mutant, fate, by, time.monotonic() - start, number)
            is_open = True
    fate = Fate.UNKNOWN if is_open else Fate.SURVIVED
    return Verdict(mutant, fate, "", time.monotonic() - start, len(groups))


def _failures(program: ir.Program, reached: Reached, cache: Cache | None) -> Iterator[tuple[Fate, str]]:
    """All goals of a group that are not proved: first what is refuted, then what is vacuous."""
    try:
        group = build_alone(program, reached.family, reached.group, z3.Context(), reached.ids)
    except (UnsupportedError, KeyError, StopIteration) as error:
        yield Fate.REJECTED, f"{reached.group}: {type(error).__name__}: {error}"
        return
    hasty = tuple(replace(goal, witnesses=(), minimise=None, explain=None) for goal in group.goals)
    found = _results(replace(group, goals=hasty), cache)
    yield from found
    assumed = tuple(_assumptions_of(goal, group.context) for goal in group.goals)
    yield from _results(replace(group, goals=assumed), cache)


def _assumptions_of(goal: Goal, context: z3.Context) -> Goal:
    """A goal that only its assumptions can fail."""
    return replace(goal, conclusion=z3.BoolVal(True, context))


def _results(group: Group, cache: Cache | None) -> Iterator[tuple[Fate, str]]:
    fates = {Status.REFUTED: Fate.KILLED, Status.VACUOUS: Fate.VACUOUS}
    for result in GroupRunner(group, LIMITS, cache).run():
        if result.status is not Status.PROVED:
            yield fates.get(result.status, Fate.UNKNOWN), result.id
