"""What can become of a mutant."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from checks.mutate.places import Mutant


class Fate(enum.StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    VACUOUS = "vacuous"  # a theorem's assumptions became unsatisfiable, which fails the run as well
    REJECTED = "rejected"  # the theorems cannot be stated any more
    EQUIVALENT = "equivalent"
    TESTED = "tested"  # no theorem notices it, a test of the project's that runs the reference does
    EXPLAINED = "explained"  # survived for a reason that is listed or proved
    SURVIVED = "survived"
    UNREACHED = "unreached"  # no theorem is about the place, and no reason is listed
    UNKNOWN = "unknown"  # the solver gave up

    @property
    def is_caught(self) -> bool:
        """Whether `nonroot prove` would fail."""
        return self in (Fate.KILLED, Fate.VACUOUS, Fate.REJECTED)

    @property
    def is_open(self) -> bool:
        """Whether nothing explains that the mutant is not caught."""
        return self in (Fate.SURVIVED, Fate.UNREACHED, Fate.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Found:
    """What a group of theorems showed of the mutant of that number: `by` names the theorem."""

    number: int
    fate: Fate
    by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of a mutant; `by` is the theorem or the test that noticed it, or the reason why none does.

    `seconds` is how long the solver took to find the counterexample; `groups` says on how many groups it was tried.
    """

    mutant: Mutant
    fate: Fate
    by: str = ""
    seconds: float = 0.0
    groups: int = 0
