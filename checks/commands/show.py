"""`nonroot show`: one instruction as specified, as generated, and what is known of it."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from checks.commands.list import row_text
from checks.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from grammar.ir import Instruction, Program, Stmt

_LINES = 60  # of generated code that are shown
_WIDE_ENOUGH = 150  # columns from which specification and code stand side by side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "instruction", metavar="INSTRUCTION", help="its name, e.g. MOV_TO_CR3 (see: nonroot list)"
    )
    parser.add_argument(
        "--all-widths", action="store_true", help="the generated code for every operand width"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the instruction."""
    import refmodel
    from checks.output import output_console
    from grammar import default_directory

    model = refmodel.load(args.spec)
    instruction = find(model.program, args.instruction)
    directory = args.spec or default_directory()
    console = output_console(has_panels=True)
    console.rule(instruction.name)
    specification = _specification(instruction, args.spec)
    code = _code(model.text, instruction, args.all_widths)
    console.print(_side_by_side(specification, code, console.width))
    console.print(_facts(model.program, instruction, directory))
    return 0


def find(program: Program, name: str) -> Instruction:
    """The instruction with that name in any case; raises `UsageError` with suggestions."""
    by_name = {key.lower(): value for key, value in program.instructions.items()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    close = difflib.get_close_matches(name.lower(), by_name, n=4)
    hint = f"; did you mean {', '.join(by_name[c].name for c in close)}?" if close else ""
    raise UsageError(f"show: there is no instruction '{name}'{hint}")


def _specification(instruction: Instruction, spec: Path | None) -> RenderableType:
    """The lines of the specification with the comments above them."""
    from rich.panel import Panel
    from rich.text import Text

    from grammar.source import default_directory, shown_file

    span = instruction.span
    lines = Path(shown_file(span.file, spec or default_directory())).read_text(encoding="utf-8").splitlines()
    first = span.line - 1
    while first > 0 and lines[first - 1].startswith("///"):
        first -= 1
    text = "\n".join(lines[first : span.end_line]).rstrip()
    return Panel(Text(text), title=f"{shown_file(span.file, spec)}:{first + 1}", title_align="left")


def _code(module: str, instruction: Instruction, all_widths: bool) -> RenderableType:
    """The generated functions of the instruction's bodies; by default only the one with the widest operands."""
    from rich.panel import Panel
    from rich.syntax import Syntax

    from refmodel.generate.module import body_name

    bodies = instruction.bodies
    if not all_widths:
        bodies = (max(bodies, key=lambda body: [width or 0 for width in body.widths]),)
    wanted = {body_name(body) for body in bodies}
    functions = [
        node for node in ast.parse(module).body if isinstance(node, ast.FunctionDef) and node.name in wanted
    ]
    lines = module.splitlines()
    text = "\n\n\n".join("\n".join(lines[f.lineno - 1 : f.end_lineno]) for f in functions)
    if not all_widths:
        text = _shortened(text)
    rest = len(instruction.bodies) - len(bodies)
    title = "generated Python" + (f" (and {rest} for other widths: --all-widths)" if rest else "")
    return Panel(Syntax(text, "python", word_wrap=True), title=title, title_align="left")


def _shortened(text: str) -> str:
    """The first lines; an unrolled loop is long and teaches nothing more."""
    lines = text.splitlines()
    left_out = len(lines) - _LINES
    return (
        text
        if left_out <= 1
        else "\n".join([*lines[:_LINES], f"    ...  # {left_out} lines more: --all-widths"])
    )


def _side_by_side(left: RenderableType, right: RenderableType, width: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    if width < _WIDE_ENOUGH:
        return Group(left, right)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid


_WAYS = {
    "handler": "by a handler",
    "compiled": "compiled from this text",
    "reference": "in the reference (llvmlite is not installed)",
}


def _facts(program: Program, instruction: Instruction, directory: Path) -> RenderableType:
    """Encodings, exits and verdicts."""
    from rich.table import Table
    from rich.text import Text

    import fastmodel

    table = Table.grid(padding=(0, 2))
    table.add_row("encodings", Text("\n".join(row_text(row) for row in instruction.rows)))
    exits = list(dict.fromkeys(exit_reasons(program, instruction)))
    table.add_row("VM exits", Text(", ".join(exits) or "none"))
    table.add_row("fast model", Text(_WAYS[fastmodel.ways(program)[instruction.name]]))
    table.add_row("verdicts", Text(_verdicts(instruction, directory)))
    return table


def exit_reasons(program: Program, instruction: Instruction) -> Iterator[str]:
    """The exit reasons in the instruction's own clauses and in the functions it calls."""
    seen: set[str] = set()
    for body in instruction.bodies:
        yield from _reasons(program, body.body, seen)


def _reasons(program: Program, statements: tuple[Stmt, ...], seen: set[str]) -> Iterator[str]:
    """Walks everything inside the statements, whatever the nodes are."""
    from dataclasses import fields, is_dataclass

    from grammar import ir

    pending: list[object] = list(statements)
    while pending:
        node = pending.pop(0)
        if isinstance(node, tuple):
            pending = [*node, *pending]
            continue
        if isinstance(node, ir.Raise) and program.aborts[node.kind].guard is not None:
            yield from _reason(node)
        if isinstance(node, ir.Call) and node.function not in seen:
            seen.add(node.function)
            yield from _reasons(program, program.functions[node.function].body, seen)
        if is_dataclass(node) and not isinstance(node, ir.Bitfield | ir.Enum | ir.Struct):
            pending = [*(getattr(node, f.name) for f in fields(node)), *pending]


def _reason(node: object) -> Iterator[str]:
    """The name of the exit reason, where it is written out."""
    from grammar import ir

    if isinstance(node, ir.Raise) and isinstance(node.value, ir.MakeStruct):
        reason = node.value.values[0]
        if isinstance(reason, ir.Literal) and isinstance(reason.type, ir.Enum):
            yield from (name for name, value in reason.type.members if value == reason.value)


def _verdicts(instruction: Instruction, directory: Path) -> str:
    """What the last proofs of this specification said."""
    from grammar.cachedir import cache_directory
    from grammar.load import content_key

    cache = cache_directory()
    path = cache / f"verdicts-{content_key(directory)}.json" if cache is not None else None
    try:
        known: dict[str, str] = json.loads(path.read_text()) if path is not None else {}
    except (OSError, ValueError):
        known = {}
    name = re.compile(rf"trap\.{re.escape(instruction.name)}[./]")
    own = {goal: status for goal, status in known.items() if name.match(goal)}
    if not own:
        return f"none yet for this specification: nonroot prove {instruction.name}"
    others = [f"{status} {goal}" for goal, status in sorted(own.items()) if status != "PROVED"]
    return "\n".join([f"PROVED {len(own) - len(others)} of {len(own)}", *others])
