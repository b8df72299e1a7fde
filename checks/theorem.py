"""What is proved: goals, the groups that share a solver, and the record of each verdict.

A family of theorems (`trap`, `isolation`) lists its groups cheaply as `Outline`s, and builds one group at a time:
terms in a fresh z3 context, which makes the solver's run repeatable whatever ran before. `checks.solve` runs a group.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import z3

from checks.extract import Roots
from grammar.ir import Program
from grammar.source import Span


class Status(enum.StrEnum):
    """The verdict on one goal.

    `VACUOUS`: proved, but from assumptions that nothing satisfies. `DISAGREEMENT`: two solvers contradict each other.
    """

    PROVED = "PROVED"
    REFUTED = "REFUTED"
    VACUOUS = "VACUOUS"
    UNKNOWN = "UNKNOWN"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"
    DISAGREEMENT = "DISAGREEMENT"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A refutation in the spec's terms.

    `summary` says in one line what went wrong; `rows` are (field, value, value …) under `columns`; `where` is the
    clause of the specification concerned; `case` is the JSON document that `nonroot replay` runs, None if the
    counterexample cannot be executed (a state of a protocol, say).
    """

    summary: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    where: Span | None = None
    case: dict[str, object] | None = None


Explain = Callable[[z3.ModelRef], Counterexample]
Preferences = Callable[[], Sequence[z3.ExprRef]]


@dataclass(frozen=True, slots=True)
class Witness:
    """A condition that shows a goal's assumptions to be satisfiable; `name` says what then happens.

    `hints` are further conditions that make it easier to satisfy, tried where the plain question is hard.
    """

    name: str
    condition: z3.BoolRef
    hints: tuple[z3.BoolRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What it means that a conclusion holds always, and that it fails for some state."""

    holds: str
    fails: str


@dataclass(frozen=True, slots=True)
class Goal:
    """hypotheses of the group ∧ `hypotheses` ⇒ `conclusion`.

    The first of `witnesses` that is satisfiable with the hypotheses is reported; if none is, the goal is vacuous.
    With none given, the hypotheses alone must be satisfiable. `minimise()` lists terms (bit vectors or bools) that a
    counterexample shall have zero or false if it can, the most important first. `explain` renders a model of
    the negation.

    Where another goal of the group shows the assumptions to be satisfiable, `own_witnesses()` are those of this one.

    The conjuncts of a conclusion that `is_split` are asked about one by one: where they have little in common, that
    is easier.

    A goal with `answers` is a question, free of the hypotheses of the group and asked about conjunct by conjunct:
    either way it is decided it counts as proved, and the result's `witness` is the answer.
    """

    id: str
    conclusion: z3.BoolRef
    hypotheses: tuple[z3.BoolRef, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    minimise: Preferences | None = None
    explain: Explain | None = None
    answers: Answers | None = None
    own_witnesses: Callable[[], Sequence[Witness]] | None = None
    is_split: bool = False

    @property
    def is_syntactic(self) -> bool:
        """Whether the goal became literally true as its terms were built, so that no solver is needed."""
        return bool(z3.is_true(self.conclusion))


@dataclass(frozen=True, slots=True)
class Group:
    """Goals over the same terms, in one z3 context of their own.

    `is_large` says that its questions are few and large, so that simplifying each as a whole is worth more than what
    they could share.
    """

    name: str
    context: z3.Context
    goals: tuple[Goal, ...]
    hypotheses: tuple[z3.BoolRef, ...] = ()
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """A group by name, with the ids of its goals: what can be listed and selected without building terms.

    `requires` are the ids of lemmas that its goals take for granted; they are proved along with any of them. `roots`
    say which part of the program the group is built from; None, the default, is all of it.
    """

    group: str
    ids: tuple[str, ...]
    requires: tuple[str, ...] = ()
    roots: Roots | None = None


class Family(Protocol):
    """A family of theorems.  Group names start with `name` and a dot, and so do ids; but a group may hold goals of
    another family that are made from the same terms.
    """

    @property
    def name(self) -> str:
        """The first component of all ids of the family."""
        ...

    def outlines(self, program: Program) -> Iterable[Outline]:
        """All groups of the family, without building a term."""
        ...

    def build(
        self, program: Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The terms of the group of that name, all of them in `context`; goals not in `ids` may be left out.

        The prover gives what `checks.extract` cuts out of the program for the outline's roots.
        """
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one goal.

    `seconds` is the solver's time for this goal, `rlimit` what the solver counted, a figure that is the same on every
    machine. `witness` names the witness that shows the assumptions to be satisfiable, or is the answer to a question.
    `satisfiable` and `refutable` are the digests of what the solver was asked: whether the witness is possible, and
    whether the goal, or a part of it, can be refuted; they are empty where nothing was asked, or not written as text.
    """

    id: str
    group: str
    status: Status
    seconds: float
    rlimit: int = 0
    syntactic: bool = False
    cached: bool = False
    witness: str = ""
    detail: str = ""
    counterexample: Counterexample | None = None
    satisfiable: str = ""
    refutable: str = ""

    @property
    def family(self) -> str:
        """The first component of the id."""
        return self.id.split(".", maxsplit=1)[0]
