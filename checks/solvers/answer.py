"""What a solver may spend on a question, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

LOGIC = "QF_UFBV"
"""The logic of almost all questions: bit vectors and uninterpreted functions, without quantifiers."""
LOGIC_WITH_ARRAYS = "QF_AUFBV"
FIRST_RLIMIT = 3_000_000
SECOND_RLIMIT = 60_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one question: `rlimit` for each of z3's two solvers, `seconds` of wall clock for both."""

    first_rlimit: int = FIRST_RLIMIT
    second_rlimit: int = SECOND_RLIMIT
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question: `verdict` is sat, unsat or unknown, or `disagreement` where solvers contradict.

    `question` is the digest of the question's text, empty where nobody needs it.
    """

    verdict: str
    seconds: float = 0.0
    rlimit: int = 0
    reason: str = ""
    cached: bool = False
    question: str = ""

    @property
    def is_timeout(self) -> bool:
        """Whether time, not the solver's work, was the limit."""
        return self.reason in ("timeout", "canceled")
