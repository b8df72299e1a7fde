"""The corpus: a directory with the cases that differ, the seeds (cases that reached something new), and the state.

    corpus/add-0123456789ab.json      a case on which the engines differ
    corpus/seeds/0123456789ab.json    a case that reached clauses which no other seed reaches
    corpus/state.json                 how far a long campaign has come

Every file is written whole or not at all. What cannot be read is reported and skipped, what cannot be written kept in
memory and printed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from checks.case import Case, read_case
from checks.output import write_document
from refmodel.vectors import CaseError

STATE = "state.json"
SEEDS = "seeds"
STATE_VERSION = 1


class Corpus:
    """The files of a campaign under `directory`; of its cases those of some `instructions` only, if any are named.

    `problems` says what could not be read, `failures` what could not be written; `unwritten` are cases among these.
    """

    def __init__(self, directory: Path, instructions: Collection[str] | None = None) -> None:
        self.directory = directory
        self._instructions = instructions
        self.problems: list[str] = []
        self.failures: list[str] = []
        self.unwritten: list[Case] = []

    def divergent(self) -> Iterator[tuple[Path, Case]]:
        """The cases that differed once."""
        return self._cases(self.directory)

    def seeds(self) -> Iterator[tuple[Path, Case]]:
        """The cases that reached something."""
        return self._cases(self.directory / SEEDS)

    def _cases(self, directory: Path) -> Iterator[tuple[Path, Case]]:
        for path in sorted(directory.glob("*.json")):
            if path.name == STATE:
                continue
            try:
                case = read_case(path)
            except (CaseError, OSError) as error:
                self.problems.append(str(error))
                continue
            is_wanted = self._instructions is None or case.instruction in self._instructions
            if is_wanted and case.kind in ("fuzz", "program"):
                yield path, case

    def save(self, case: Case) -> Path:
        """Writes a case that differs; its name depends on its content, so that nothing is written over."""
        path = self.directory / f"{case.instruction.lower() or 'case'}-{_digest(case)}.json"
        if not self._write(path, case.document()):
            self.unwritten.append(case)
        return path

    def save_seed(self, case: Case) -> Path:
        """Writes a case that reached something new."""
        path = self.directory / SEEDS / f"{_digest(case)}.json"
        self._write(path, case.document())
        return path

    def remove(self, path: Path) -> None:
        """Removes a case."""
        path.unlink(missing_ok=True)

    def read_state(self) -> dict[str, Any]:
        """What the last campaign left behind; empty if there is none, or it cannot be read."""
        path = self.directory / STATE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self.problems.append(f"{path}: {error}: the campaign begins anew")
            return {}
        if not isinstance(document, dict) or document.get("schema_version") != STATE_VERSION:
            self.problems.append(f"{path}: not the state of a campaign: it begins anew")
            return {}
        return document

    def write_state(self, document: dict[str, Any]) -> None:
        """Writes how far the campaign has come."""
        self._write(self.directory / STATE, {"schema_version": STATE_VERSION, **document})

    def _write(self, path: Path, document: dict[str, Any]) -> bool:
        try:
            write_document(path, document)
        except OSError as error:
            failure = f"{path}: {error.strerror or error}"
            if failure not in self.failures:
                self.failures.append(failure)
            return False
        return True


def _digest(case: Case) -> str:
    content = repr((case.base, case.code, case.steps, sorted(case.state.items()), case.memory))
    return hashlib.sha256(content.encode()).hexdigest()[:12]
