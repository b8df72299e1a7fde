"""`nonroot list`: what is specified, and what each engine has of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from grammar.ir import EncodingRow, Program

_GAP = 1  # spaces behind a column, besides the one that divides it from the next
_LEAST = 24  # characters that the last column should have


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "what", nargs="?", choices=tuple(_TABLES), default="instructions", help="what to list"
    )
    parser.add_argument(
        "--missing", action="store_true", help="list what of the architecture is left out, and why"
    )


def run(args: argparse.Namespace) -> int:
    """Prints one table."""
    import grammar
    from checks.output import output_console

    listing = _missing if args.missing else _TABLES[args.what]
    console = output_console()
    console.print(_table(listing(grammar.load(args.spec)), console.width))
    return 0


@dataclass(frozen=True)
class Listing:
    """A table to be printed: its title, its columns, and a text for each column of each row."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _table(listing: Listing, width: int) -> Table:
    """The table of a listing for a console of a width.

    All columns but the last are as wide as they need, if that leaves enough for the last: to let rich find out how to
    share the width, and put spaces around each text, takes longer than everything else that this command does.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, title=listing.title, title_justify="left", padding=0)
    longest = [
        max(map(len, "\n".join(cells).split("\n"))) + _GAP
        for cells in zip(listing.columns, *listing.rows, strict=True)
    ]
    fits = sum(longest[:-1]) + len(longest) + _LEAST <= width
    for column, needed in zip(listing.columns, longest, strict=True):
        table.add_column(column, overflow="fold", width=needed if fits else None)
    if fits:
        table.columns[-1].width = min(longest[-1], width - sum(longest[:-1]) - len(longest) - 1)
    for row in listing.rows:
        table.add_row(*map(Text, row))
    return table


def _instructions(program: Program) -> Listing:
    ways = _ways(program)
    counts = ", ".join(f"{count} {way}" for way, count in Counter(ways.values()).items())
    title = f"{len(program.instructions)} instructions; in the fast model: {counts}"
    return Listing(
        title,
        ("instruction", "encodings", "fast", "summary"),
        [
            (i.name, "\n".join(map(row_text, i.rows)), ways[i.name], _line(i.doc.split("SDM")[0]))
            for i in program.instructions.values()
        ],
    )


def _line(doc: str) -> str:
    return " ".join(doc.split())


def _ways(program: Program) -> Mapping[str, str]:
    """How the fast model runs each instruction."""
    import fastmodel

    found: Mapping[str, str] = fastmodel.ways(program)
    return found


def _handlers(program: Program) -> Listing:
    return Listing(
        "Handlers of the VMM",
        ("exit reason", "number", "place"),
        [(h.name, "" if h.value is None else str(h.value), str(h.span)) for h in program.handlers.values()],
    )


def _steps(program: Program) -> Listing:
    return Listing(
        "Micro-steps",
        ("step", "made by", "summary"),
        [(s.name, "hardware" if s.hardware else "VMM", _line(s.doc)) for s in program.steps.values()],
    )


def _policies(program: Program) -> Listing:
    rows = [(policy.name, _line(policy.doc)) for policy in program.policies.values()]
    return Listing("What the VMM promises", ("policy", "summary"), rows)


def _missing(program: Program) -> Listing:
    rows = [(part.name, _line(part.doc)) for part in program.missing.values()]
    return Listing("What is left out, and why", ("part", "reason"), rows)


def row_text(row: EncodingRow) -> str:
    """A row of the opcode table, as the specification writes it."""
    prefixes = "".join(f"{prefix} + " for prefix in row.prefixes)
    opcode = " ".join(f"{byte.value:02X}" + ("+r" if byte.register else "") for byte in row.opcode)
    modrm = "" if row.modrm is None else f" /{row.modrm}"
    return " ".join([f"{prefixes}{opcode}{modrm}", *row.operands, *row.attributes])


def _theorems(program: Program) -> Listing:
    from checks.families import families

    outlines = [outline for family in families().values() for outline in family.outlines(program)]
    count = sum(len(outline.ids) for outline in outlines)
    rows = [(o.group, str(len(o.ids)), o.ids[0], o.ids[-1]) for o in outlines]
    return Listing(f"{count} theorems", ("group", "theorems", "from", "to"), rows)


_TABLES: dict[str, Callable[[Program], Listing]] = {
    "instructions": _instructions,
    "handlers": _handlers,
    "steps": _steps,
    "policies": _policies,
    "theorems": _theorems,
}
