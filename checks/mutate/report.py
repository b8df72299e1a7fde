"""The results of a campaign as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from checks.mutate.fates import Fate, Verdict
from checks.mutate.scope import area

SCHEMA_VERSION = 1


def document(found: Iterable[Verdict]) -> dict[str, object]:
    """The counts, the survivors, and the verdict on each mutant."""
    results = sorted(found, key=lambda v: v.mutant.id)
    counts = Counter(v.fate for v in results)
    return {
        "schema_version": SCHEMA_VERSION,
        "mutants": len(results),
        "killed": sum(v.fate.is_caught for v in results),
        "equivalent": counts[Fate.EQUIVALENT],
        "explained": counts[Fate.EXPLAINED],
        "survivors": [_record(v) for v in results if v.fate.is_open],
        "results": [_record(v) for v in results],
    }


def _record(verdict: Verdict) -> dict[str, object]:
    mutant = verdict.mutant
    return {
        "id": mutant.id,
        "fate": str(verdict.fate),
        "by": verdict.by,
        "area": area(mutant),
        "item": mutant.name,
        "operator": mutant.operator,
        "description": mutant.description,
        "where": str(mutant.span),
        "seconds": round(verdict.seconds, 3),
        "groups": verdict.groups,
    }


def write_json(found: Iterable[Verdict], path: Path) -> None:
    """Writes the results to a file.  Raises OSError."""
    path.write_text(json.dumps(document(found), indent=1) + "\n", encoding="utf-8")
