"""`nonroot list`: what is specified, and what each engine has of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from grammar.ir import EncodingRow, Program


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

    table = _missing if args.missing else _TABLES[args.what]
    output_console().print(table(grammar.load(args.spec)))
    return 0


def _table(title: str, *columns: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _instructions(program: Program) -> Table:
    ways = _ways(program)
    counts = ", ".join(f"{count} {way}" for way, count in Counter(ways.values()).items())
    title = f"{len(program.instructions)} instructions; in the fast model: {counts}"
    table = _table(title, "instruction", "encodings", "fast", "summary")
    for instruction in program.instructions.values():
        encodings = "\n".join(row_text(row) for row in instruction.rows)
        summary = " ".join(instruction.doc.split("SDM")[0].split())
        table.add_row(instruction.name, encodings, ways[instruction.name], summary)
    return table


def _ways(program: Program) -> Mapping[str, str]:
    """How the fast model runs each instruction."""
    import fastmodel

    found: Mapping[str, str] = fastmodel.ways(program)
    return found


def _handlers(program: Program) -> Table:
    table = _table("Handlers of the VMM", "exit reason", "number", "place")
    for handler in program.handlers.values():
        table.add_row(handler.name, "" if handler.value is None else str(handler.value), str(handler.span))
    return table


def _steps(program: Program) -> Table:
    table = _table("Micro-steps", "step", "made by", "summary")
    for step in program.steps.values():
        table.add_row(step.name, "hardware" if step.hardware else "VMM", " ".join(step.doc.split()))
    return table


def _policies(program: Program) -> Table:
    table = _table("What the VMM promises", "policy", "summary")
    for policy in program.policies.values():
        table.add_row(policy.name, " ".join(policy.doc.split()))
    return table


def _missing(program: Program) -> Table:
    table = _table("What is left out, and why", "part", "reason")
    for part in program.missing.values():
        table.add_row(part.name, " ".join(part.doc.split()))
    return table


def row_text(row: EncodingRow) -> str:
    """A row of the opcode table, as the specification writes it."""
    prefixes = "".join(f"{prefix} + " for prefix in row.prefixes)
    opcode = " ".join(f"{byte.value:02X}" + ("+r" if byte.register else "") for byte in row.opcode)
    modrm = "" if row.modrm is None else f" /{row.modrm}"
    return " ".join([f"{prefixes}{opcode}{modrm}", *row.operands, *row.attributes])


def _theorems(program: Program) -> Table:
    from checks.families import families

    outlines = [outline for family in families().values() for outline in family.outlines(program)]
    count = sum(len(outline.ids) for outline in outlines)
    table = _table(f"{count} theorems", "group", "theorems", "from", "to")
    for outline in outlines:
        table.add_row(outline.group, str(len(outline.ids)), outline.ids[0], outline.ids[-1])
    return table


_TABLES: dict[str, Callable[[Program], Table]] = {
    "instructions": _instructions,
    "handlers": _handlers,
    "steps": _steps,
    "policies": _policies,
    "theorems": _theorems,
}
