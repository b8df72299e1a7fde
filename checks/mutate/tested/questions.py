"""What a process that runs tests is asked, and what it answers.  A test is known by pytest's `nodeid`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from checks.mutate.places import Mutant


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a test does without a mutant: whether it passes, which functions it calls, and its seconds."""

    passes: bool
    reached: frozenset[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """The test that fails with a mutant in place, and after how many seconds of processor time."""

    test: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Survey:
    """Asks what a test does; the answer is `Surveyed`."""

    test: str


@dataclass(frozen=True, slots=True)
class Try:
    """Asks which of some tests fails first with a mutant in place; the answer is `Noticed`, or None if all pass."""

    mutant: Mutant
    tests: Sequence[str]
