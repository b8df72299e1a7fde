"""`nonroot matrix`: what makes each instruction exit, what virtualizes it, and which policies it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from checks.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from grammar.ir import Program

Row = TypeVar("Row")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="instructions to show, with the states that show them to be sensitive (default: all, as a table)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--policies", action="store_true", help="show which policies each instruction's theorems need"
    )
    what.add_argument(
        "--vmx-off", action="store_true", help="show what is sensitive and does not trap at CPL 3 without VMX"
    )
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="processes (default: one a processor)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the matrix as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the whole matrix as a document")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="say whether that document is up to date: exit status 1 if not",
    )


def run(args: argparse.Namespace) -> int:
    """Prints a matrix: 0, or 1 if a theorem or witness fails or a document is out of date, 3 if undecided."""
    import grammar
    from checks.matrix.asker import RefutedError, UndecidedError

    program = grammar.load(args.spec)
    _check_arguments(args, program)
    try:
        return _vmx_off(args, program) if args.vmx_off else _matrix(args, program)
    except UndecidedError as error:
        print(f"nonroot: matrix: the solver did not decide: {error}", file=sys.stderr)
        return 3
    except RefutedError as error:
        print(f"nonroot: matrix: no policy suffices; see why: nonroot prove '{error}'", file=sys.stderr)
        return 1


def _check_arguments(args: argparse.Namespace, program: Program) -> None:
    unknown = [name for name in args.names if name not in program.instructions]
    if unknown:
        raise UsageError(f"matrix: there is no instruction '{unknown[0]}' (`nonroot list` lists them)")
    if args.names and (args.check or args.markdown):
        raise UsageError("matrix: a document is about all instructions; leave the names out")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError("matrix: -j must be above 0")
    if args.check is not None and not args.check.is_file():
        raise UsageError(f"matrix: there is no file {args.check}")


def _matrix(args: argparse.Namespace, program: Program) -> int:
    """With VMX."""
    from checks.matrix.rows import blocks, compute, matrix
    from checks.matrix.text import COLUMNS, document, markdown, words
    from checks.output import output_console

    total = sum(map(len, blocks(program, args.names).values()))
    rows = _all(compute(args.spec, args.names, _jobs(args)), total)
    order = list(program.instructions)
    rows.sort(key=lambda row: order.index(row.instruction))
    whole = None if args.names else matrix(program, rows)
    text = markdown(program, whole) if whole is not None else ""
    if args.check is not None:
        return _compare(args.check, text)
    console = output_console()
    if args.policies:
        needs = [(row.instruction, *(", ".join(names) for _, names in row.needs)) for row in rows]
        _print(console, ("instruction", "C needs", "I needs", "E needs"), needs)
    else:
        _print(console, COLUMNS, [words(row) for row in rows])
    if whole is not None:
        console.print(f"The other {len(whole.plain)} of {len(order)} are innocuous by their text.")
        console.print(f"No theorem about instructions needs: {', '.join(whole.unused)}.")
    _write(args, document(rows, whole), text)
    return 0 if _print_witnesses(console, args, program) else 1


def _vmx_off(args: argparse.Namespace, program: Program) -> int:
    """Without."""
    from checks.output import output_console
    from checks.vmx_off.compared import Theirs, broken
    from checks.vmx_off.rows import COLUMNS, blocks, compute, document, markdown, words

    total = sum(map(len, blocks(program, args.names)))
    rows = _all(compute(args.spec, args.names, _jobs(args)), total)
    order = list(program.instructions)
    rows.sort(key=lambda row: order.index(row.instruction))
    wrong = broken(Theirs.load(), {row.instruction: row for row in rows})
    for problem in wrong:
        print(f"unlike Robin and Irvine's list, or what is said of it: {problem}", file=sys.stderr)
    if args.check is not None:
        return _compare(args.check, markdown(rows)) or int(bool(wrong))
    console = output_console()
    _print(console, COLUMNS, [words(row) for row in rows if row.is_sensitive or args.names])
    count = len(args.names) or len(order)
    console.print(f"{sum(row.is_sensitive for row in rows)} of {count} are sensitive and unprivileged.")
    _write(args, document(rows), markdown(rows))
    return 1 if wrong else 0


def _jobs(args: argparse.Namespace) -> int:
    return args.jobs or os.cpu_count() or 1


def _all(parts: Iterator[list[Row]], total: int) -> list[Row]:
    """All rows, with a line that shows how far it is."""
    from checks.progress import Progress

    rows: list[Row] = []
    with Progress(beats=True) as progress:
        progress.show(lambda: f"{len(rows)} of {total} instructions")
        for some in parts:
            rows.extend(some)
            progress.show(lambda: f"{len(rows)} of {total} instructions")
    return rows


def _print(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _write(args: argparse.Namespace, document: dict[str, object], text: str) -> None:
    from checks.output import write_document, write_text

    if args.json is not None:
        write_document(args.json, document)
    if args.markdown is not None:
        write_text(args.markdown, text)


def _compare(path: Path, text: str) -> int:
    """0 if the file has the text, else 1, and what differs."""
    old, new = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
    for line in unified_diff(old, new, str(path), "computed", n=0, lineterm=""):
        print(line)
    if old != new:
        print(f"{path} is out of date: write it anew with --markdown {path}", file=sys.stderr)
    return 0 if old == new else 1


def _print_witnesses(console: Console, args: argparse.Namespace, program: Program) -> bool:
    """Whether the reference confirms the witnesses of all instructions that were named."""
    from rich.markup import escape

    import refmodel
    from checks.matrix.witnesses import witnesses

    confirmed = True
    for name in args.names:
        for shown in witnesses(program, refmodel.load(args.spec), name):
            confirmed &= shown.confirmed
            console.print(f"[bold]{escape(shown.id)}[/]  {escape(shown.found.summary)}")
            console.print(escape(shown.said.rstrip()))
            console.print()
    return confirmed
