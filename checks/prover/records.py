"""Results as files: JSON with a schema version, JUnit XML, and the verdicts that `nonroot show` quotes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from checks.output import write_document, write_xml
from checks.theorem import Counterexample, Result, Status
from grammar.cachedir import cache_directory, write_atomically
from grammar.load import content_key

SCHEMA_VERSION = 1
QUESTIONS = ("satisfiable", "refutable")
"""What the solvers were asked, as digests of the texts; left out where nothing was asked, and without a cache."""


def write_json(results: Sequence[Result], path: Path) -> None:
    """All results, sorted by id, and how many there are of each status."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "results": [_record(result) for result in sorted(results, key=lambda r: r.id)],
        "summary": summary(results),
    }
    write_document(path, document)


def summary(results: Iterable[Result]) -> dict[str, int]:
    """How many results have each status, in the order of `Status`; statuses without results are left out."""
    counts = Counter(result.status for result in results)
    return {str(status): counts[status] for status in Status if counts[status]}


def _record(result: Result) -> dict[str, object]:
    record: dict[str, object] = {
        "id": result.id,
        "status": str(result.status),
        "seconds": round(result.seconds, 4),
        "family": result.family,
        "group": result.group,
        "rlimit": result.rlimit,
        "witness": result.witness,
        "syntactic": result.syntactic,
        "cached": result.cached,
    }
    record |= {name: text for name in QUESTIONS if (text := getattr(result, name))}
    if result.detail:
        record["detail"] = result.detail
    if result.counterexample is not None:
        record["counterexample"] = _counterexample(result.counterexample)
    return record


def _counterexample(found: Counterexample) -> dict[str, object]:
    return {
        "summary": found.summary,
        "columns": list(found.columns),
        "rows": [list(row) for row in found.rows],
        "where": str(found.where) if found.where is not None else None,
        "case": found.case,
    }


def write_junit(results: Sequence[Result], path: Path) -> None:
    """One test suite a family, one test case a goal; what is neither proved nor refuted is an error."""
    root = ET.Element("testsuites")
    for family in sorted({result.family for result in results}):
        own = sorted((r for r in results if r.family == family), key=lambda r: r.id)
        suite = ET.SubElement(root, "testsuite", name=family, tests=str(len(own)))
        suite.set("failures", str(sum(r.status is Status.REFUTED for r in own)))
        suite.set("errors", str(sum(r.status not in (Status.PROVED, Status.REFUTED) for r in own)))
        for result in own:
            _test_case(suite, result)
    write_xml(path, root)


def _test_case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=result.group, name=result.id, time=f"{result.seconds:.4f}"
    )
    if result.status is not Status.PROVED:
        kind = "failure" if result.status is Status.REFUTED else "error"
        ET.SubElement(case, kind, type=str(result.status), message=result.detail)


def remember_verdicts(results: Iterable[Result], specification: Path) -> None:
    """Adds the verdicts to those known of this specification, in the cache directory."""
    directory = cache_directory()
    if directory is None:
        return
    path = directory / f"verdicts-{content_key(specification)}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    verdicts = known if isinstance(known, dict) else {}
    verdicts.update({result.id: str(result.status) for result in results})
    write_atomically(path, json.dumps(verdicts, sort_keys=True).encode())
