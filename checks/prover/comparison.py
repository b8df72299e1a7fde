"""Compares results with those of an earlier run: verdicts, witnesses, and the questions that the solvers were asked.

They depend neither on the number of processes nor on the order; verdicts and witnesses not on the version of Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from checks.prover.records import QUESTIONS, SCHEMA_VERSION
from checks.theorem import Result

Record = dict[str, object]


class RecordError(Exception):
    """A file that is not the JSON of `nonroot prove`; the message says why."""


def read(path: Path) -> dict[str, Record]:
    """The results of an earlier run by id.  Raises RecordError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{path} is not what `nonroot prove --json` writes (schema_version {SCHEMA_VERSION})"
        )
    return {record["id"]: record for record in document["results"]}


def differences(results: Sequence[Result], earlier: dict[str, Record]) -> Iterator[str]:
    """One line for each result that is another than before, or that only one of the runs has."""
    for result in sorted(results, key=lambda r: r.id):
        before = earlier.get(result.id)
        if before is None:
            yield f"{result.id}: not among the earlier results"
            continue
        now: Record = {"status": str(result.status), "witness": result.witness}
        now |= {name: text for name in QUESTIONS if name in before and (text := getattr(result, name))}
        yield from (
            f"{result.id}: {name} was {before[name]}, is {value}"
            for name, value in now.items()
            if before[name] != value
        )
    for missing in sorted(earlier.keys() - {result.id for result in results}):
        yield f"{missing}: only among the earlier results"
