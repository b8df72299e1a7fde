"""Results on the terminal: counts while proving, then a table, then each failure in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from checks.case import replay_command
from checks.theorem import Counterexample, Result, Status
from grammar.source import Span, default_directory, shown_file

COLOURS = {
    Status.PROVED: "green",
    Status.REFUTED: "bold red",
    Status.VACUOUS: "magenta",
    Status.UNKNOWN: "yellow",
    Status.TIMEOUT: "yellow",
    Status.ERROR: "bold red",
    Status.DISAGREEMENT: "bold red",
}
FEW = 30
"""Up to so many goals have a line each; more are summed up by family."""
DETAILED = 5
"""So many failures are shown in full without `-v`."""

WIDEST = 60
"""Columns of a summary, and of a value in a counterexample, out of a pipe too: a word of controls has many names."""
SAME = "the same"
"""Stands for the value on the other side, where both are equal."""


class Counts:
    """How many of so many theorems have which verdict."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[Status] = Counter()

    def add(self, result: Result) -> None:
        """Counts a result."""
        self._counts[result.status] += 1

    def text(self) -> str:
        """The number of results, and of those that are not proofs."""
        bad = (f"{n} {status}" for status, n in self._counts.items() if status is not Status.PROVED)
        return "  ".join((f"{self._counts.total()} of {self._total} theorems", *bad))


def print_table(console: Console, results: Sequence[Result], seconds: float, *, verbose: bool) -> None:
    """One line a goal if there are few, else one a family; then how long it all took."""
    ordered = sorted(results, key=lambda r: r.id)
    console.print(_by_goal(ordered) if verbose or len(ordered) <= FEW else _by_family(ordered))
    counts = Counter(result.status for result in ordered)
    words = ", ".join(f"[{COLOURS[s]}]{counts[s]} {s}[/]" for s in Status if counts[s])
    console.print(f"{words or 'nothing proved'} in {seconds:.1f} s", highlight=False)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _by_goal(results: Sequence[Result]) -> Table:
    table = _table("theorem", "verdict", "how", "time")
    for result in results:
        verdict = f"[{COLOURS[result.status]}]{result.status}[/]"
        table.add_row(escape(result.id), verdict, _how(result), f"{result.seconds * 1000:.0f} ms")
    return table


def _how(result: Result) -> str:
    """How a goal was proved, and what its witness does: an instruction that can complete, or must exit."""
    if result.status is not Status.PROVED:
        return escape(shorten(result.detail.partition("\n")[0], WIDEST, placeholder=" …"))
    by = "by construction" if result.syntactic else "cached" if result.cached else "solver"
    return f"{by}, {result.witness}"


def _by_family(results: Sequence[Result]) -> Table:
    table = _table("family", "theorems", "proved", "by construction", "not proved", "solver time")
    for family in sorted({result.family for result in results}):
        own = [result for result in results if result.family == family]
        proved = [result for result in own if result.status is Status.PROVED]
        table.add_row(
            family,
            str(len(own)),
            f"[green]{len(proved)}[/]",
            str(sum(result.syntactic for result in proved)),
            f"[bold red]{len(own) - len(proved)}[/]" if len(proved) < len(own) else "0",
            f"{sum(result.seconds for result in own):.1f} s",
        )
    return table


def print_failures(
    console: Console, failures: Sequence[Result], cases: dict[str, Path], spec: Path | None, *, verbose: bool
) -> None:
    """Each failure in full, the first few if there are many, and then all of them by name.

    `cases` are the files of counterexamples; `spec` is the specification they are about, None for the project's.
    """
    shown = failures if verbose else failures[:DETAILED]
    for result in shown:
        console.print()
        console.print(
            f"[{COLOURS[result.status]}]{result.status}[/]  [bold]{escape(result.id)}[/]", highlight=False
        )
        if result.counterexample is not None:
            _print_counterexample(console, result.counterexample, cases.get(result.id), spec)
        elif result.detail:
            console.print(f"  {escape(result.detail.strip())}", highlight=False)
    if len(failures) > 1:
        console.print("\nNot proved:")
        for result in failures:
            console.print(
                f"  [{COLOURS[result.status]}]{result.status:<8}[/]  {escape(result.id)}", highlight=False
            )
    if len(shown) < len(failures):
        console.print(f"({len(shown)} of {len(failures)} shown in full; -v shows all)")


def _print_counterexample(
    console: Console, found: Counterexample, case: Path | None, spec: Path | None
) -> None:
    console.print(f"  {escape(found.summary)}", highlight=False)
    console.print(values_table(found))
    if found.where is not None:
        _print_place(console, found.where, spec)
    if case is not None:
        console.print(f"  replay it:  {replay_command(case, spec)}", highlight=False)


def values_table(found: Counterexample) -> Table:
    """The state of a counterexample: bold where the sides differ, and written once where they do not."""
    table = Table(box=SIMPLE)
    for column in found.columns:
        table.add_column(escape(column), max_width=WIDEST)
    for name, *values in found.rows:
        is_same = len(values) > 1 and len(set(values)) == 1
        shown = [values[0], *(SAME for _ in values[1:])] if is_same else values
        is_different = len(set(filter(None, values))) > 1
        table.add_row(escape(name), *(escape(cell) for cell in shown), style="bold" if is_different else None)
    return table


def _print_place(console: Console, where: Span, spec: Path | None) -> None:
    """The place in the specification, and its lines if the file can be read."""
    console.print(f"  {shown_file(where.file, spec)}:{where.line}", highlight=False)
    try:
        path = Path(shown_file(where.file, spec or default_directory()))
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines[where.line - 1 : min(where.end_line, where.line + 7)]:
        console.print(f"    [dim]{escape(line)}[/]", highlight=False)
