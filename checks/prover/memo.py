"""Verdicts of groups that did not change since they were proved, without building their terms.

The key of a group is a digest of all that its terms are made from: its extract of the specification, the Python code
of its family (`checks.prover.sources`), and the versions of Python and z3. Under it the cache has the questions that
the group asks; the verdicts are the solvers' answers to them. A group is remembered once all its goals are proved, so
that what was refuted is built again and explained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from checks.cache import ProofCache
from checks.digest import Digests
from checks.extract import Extractor
from checks.families import families, modules_of
from checks.prover.selection import Task
from checks.prover.sources import digest_of, files_of
from checks.solve import versioned
from checks.theorem import Result, Status
from grammar import ir


@dataclass(slots=True)
class Memo:
    """What the cache knows of the groups of one program, by the answers of `solvers`."""

    program: ir.Program
    cache: ProofCache
    solvers: Sequence[str]
    _digests: Digests = field(default_factory=Digests)
    _extractor: Extractor = field(init=False)
    _code: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._extractor = Extractor(self.program)
        self._code = {name: digest_of(files_of(modules_of(family))) for name, family in families().items()}

    def recall(self, tasks: Iterable[Task]) -> tuple[list[Result], Iterable[Task]]:
        """The results that are known, and the tasks that are left, in order, each with its key.

        Where nothing is known, the keys are made as the tasks are asked for, while others are being proved.
        """
        if not self.cache.has_questions():
            return [], map(self._keyed, tasks)
        known: list[Result] = []
        left: list[Task] = []
        for keyed in map(self._keyed, tasks):
            results = self._results(keyed)
            known += results or ()
            left += [keyed] if results is None else ()
        return known, left

    def _keyed(self, task: Task) -> Task:
        """The task with its key, the digest of all that its goals are made from."""
        made_from = self._digests.of(self._extractor.of(task.roots))
        text = repr((self._code[task.family], made_from, task.group, sorted(task.ids)))
        return replace(task, key=hashlib.sha256(text.encode()).digest())

    def _results(self, task: Task) -> list[Result] | None:
        """The results, if each goal of the task is known to be proved."""
        questions = self.cache.questions(task.key)
        if questions is None or {one["id"] for one in questions} != task.ids:
            return None
        if not all(self._was_proved(one["satisfiable"], one["refutable"]) for one in questions):
            return None
        return [_result(task, one) for one in questions]

    def _was_proved(self, satisfiable: str, refutable: str) -> bool:
        """Whether all solvers found the witness possible and the refutation, if it was asked for, impossible."""
        return all(
            self.cache.answer(solver, satisfiable) == "sat"
            and all(self.cache.answer(solver, one) == "unsat" for one in refutable.split())
            for solver in map(versioned, self.solvers)
        )


def _result(task: Task, known: dict[str, str]) -> Result:
    is_syntactic = bool(known["syntactic"])
    return Result(
        known["id"],
        task.group,
        Status.PROVED,
        0.0,
        syntactic=is_syntactic,
        cached=not is_syntactic,
        witness=known["witness"],
        satisfiable=known["satisfiable"],
        refutable=known["refutable"],
    )


def remember(cache: ProofCache, key: bytes, results: Iterable[Result]) -> None:
    """Remembers a group of which all wanted goals are proved; any other not."""
    questions = [
        {
            "id": r.id,
            "witness": r.witness,
            "syntactic": "yes" if r.syntactic else "",
            "satisfiable": r.satisfiable,
            "refutable": r.refutable,
        }
        for r in results
    ]
    cache.remember_questions(key, questions)
