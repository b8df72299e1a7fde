"""`nonroot replay`: recorded vectors to outcomes, or one case of a proof or of the fuzzer again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from checks.errors import UsageError

if TYPE_CHECKING:
    from refmodel.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CASES.jsonl[.gz], or one case as JSON")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="where to write the outcomes of vectors"
    )
    parser.add_argument("--engine", choices=("reference", "fast"), default="reference", help="what runs them")


def run(args: argparse.Namespace) -> int:
    """Replays; 0 if all went well (of a case: if it is confirmed), 1 if it is not confirmed, 2 for a bad file."""
    from refmodel.vectors import CaseError

    try:
        if not _is_vectors(args.file):
            from checks.case import replay_case

            return replay_case(args.file, args.spec)
        if args.output is None:
            raise UsageError("replay: say where to write the outcomes with -o OUT.jsonl")
        return _replay_vectors(args)
    except CaseError as error:
        raise UsageError(str(error)) from None


def _is_vectors(path: Path) -> bool:
    """Vectors are JSON lines; anything else is one case."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def _replay_vectors(args: argparse.Namespace) -> int:
    """Writes one outcome a line as it goes, so that an interrupt keeps what was done."""
    import refmodel
    from refmodel.vectors import read_cases

    model = refmodel.load(args.spec)
    replayer = _replayer(model, args.engine)
    count = unsupported = 0
    with args.output.open("w", encoding="utf-8") as output:
        for base, case in read_cases(args.file):
            count += 1
            unsupported += _write(output, replayer, base, case)
    print(f"{count} cases, {unsupported} unsupported: {args.output}", file=sys.stderr)
    return 0


def _replayer(model: Model, engine: str) -> Any:
    from refmodel.replay import Replayer

    if engine == "reference":
        return Replayer(model)
    from fastmodel import FastEngine

    def fast(machine: Any) -> Callable[[], bool]:
        execute: Callable[[], bool] = FastEngine(model.program, machine).execute_one
        return execute

    return Replayer(model, fast)


def _write(output: TextIO, replayer: Any, base: Any, case: Any) -> bool:
    """Writes the outcome of one case; true if it is unsupported."""
    from refmodel.replay import Unsupported

    try:
        result: dict[str, Any] = {"id": case.number, "o": replayer.run(base, case)}
    except Unsupported as reason:
        result = {"id": case.number, "unsupported": str(reason)}
    print(json.dumps(result), file=output)
    return "unsupported" in result
