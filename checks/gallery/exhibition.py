"""Shows many bugs, in several processes, and sums up."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from checks.gallery.bugs import Bug, bugs, out_of_model
from checks.gallery.demonstrate import Shown, demonstrate
from checks.output import write_document

SCHEMA_VERSION = 1


def exhibit(chosen: Sequence[Bug], directory: Path | None, jobs: int) -> Iterator[Shown]:
    """What is shown of each, as it comes."""
    if jobs == 1:
        yield from (demonstrate(bug, directory) for bug in chosen)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _start_worker) as pool:
        yield from pool.imap_unordered(partial(_show, directory), [bug.id for bug in chosen])


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent to handle


def _show(directory: Path | None, name: str) -> Shown:
    return demonstrate(bugs()[name], directory)


def document(found: Sequence[Shown], total: int) -> dict[str, object]:
    """The results as JSON; `bugs` counts those that were to be shown."""
    results = sorted(found, key=lambda shown: shown.bug.id)
    return {
        "schema_version": SCHEMA_VERSION,
        "bugs": total,
        "found": sum(shown.is_found for shown in results),
        "missed": [shown.bug.id for shown in results if not shown.is_found],
        "results": [_record(shown) for shown in results],
        "out_of_model": {one.id: one.lacks for one in out_of_model()},
    }


def _record(shown: Shown) -> dict[str, object]:
    bug = shown.bug
    return {
        "id": bug.id,
        "tier": bug.tier,
        "story": bug.story,
        "violates": bug.violates,
        "found": shown.is_found,
        "refuted": [result.id for result in shown.refuted],
        "replayed": shown.replayed,
        "harm": bug.harm,
        "right": bug.right,
        "written": shown.observed.written if shown.observed is not None else None,
        "problem": shown.problem,
        "seconds": round(shown.seconds, 2),
    }


def write_json(found: Sequence[Shown], total: int, path: Path) -> None:
    """Writes the results to a file.  Raises OSError."""
    write_document(path, document(found, total))
