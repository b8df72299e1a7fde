"""`nonroot gallery`: historical bugs of hypervisors, put into the specification one by one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from checks.gallery.bugs import Bug
    from checks.gallery.demonstrate import Shown


EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="bugs to show, in full (default: all, in short)")
    parser.add_argument(
        "--list", action="store_true", help="list the bugs, and those that cannot be expressed"
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON, after each bug")


def run(args: argparse.Namespace) -> int:
    """Shows bugs: 0 if each is found, 1 if one is not, 130 if interrupted."""
    from checks.gallery.bugs import bugs
    from checks.output import output_console

    known = bugs()
    console = output_console()
    if args.list:
        _list(console, known)
        return 0
    if args.jobs < 1:
        raise UsageError("gallery: -j must be above 0")
    chosen = [_known(known, wanted) for wanted in args.ids] or list(known.values())
    found: list[Shown] = []
    try:
        _exhibit(args, console, chosen, found)
    except KeyboardInterrupt:
        _report(console, found, len(chosen))
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    _report(console, found, len(chosen))
    return 0 if all(shown.is_found for shown in found) else 1


def _known(known: dict[str, Bug], wanted: str) -> Bug:
    """A bug by its id.  Raises UsageError."""
    from checks.gallery.bugs import out_of_model

    lacking = {one.id: one.lacks for one in out_of_model()}
    if wanted in lacking:
        raise UsageError(f"gallery: {wanted} cannot be expressed: {lacking[wanted]}")
    if wanted not in known:
        raise UsageError(f"gallery: there is no bug '{wanted}' (`nonroot gallery --list` lists them)")
    return known[wanted]


def _exhibit(args: argparse.Namespace, console: Console, chosen: Sequence[Bug], found: list[Shown]) -> None:
    """Shows bugs one by one, and adds what came out to `found`."""
    from checks.gallery.exhibition import exhibit, write_json
    from checks.progress import Progress

    with Progress(beats=True) as progress:
        for shown in exhibit(chosen, args.spec, args.jobs):
            found.append(shown)
            progress.show(lambda: f"{len(found)} of {len(chosen)} bugs shown")
            _print(console, shown, in_full=bool(args.ids))
            if args.json is not None:
                write_json(found, len(chosen), args.json)


def _report(console: Console, found: Sequence[Shown], total: int) -> None:
    missed = [shown.bug.id for shown in found if not shown.is_found]
    seconds = sum(shown.seconds for shown in found)
    console.print(f"{len(found) - len(missed)} of {total} bugs found, in {seconds:.1f} s of CPU time")
    if missed:
        print(f"not found: {', '.join(missed)}", file=sys.stderr)


def _list(console: Console, known: dict[str, Bug]) -> None:
    from rich.markup import escape

    from checks.gallery.bugs import out_of_model

    for bug in known.values():
        console.print(f"[bold]{bug.id:<16}[/] {escape(bug.story)} [dim]({escape(bug.violates)})[/]")
    console.print(f"\n{len(known)} bugs.  Not expressible:")
    for one in out_of_model():
        console.print(f"[dim]{one.id:<16} {escape(one.lacks)}[/]")


def _print(console: Console, shown: Shown, *, in_full: bool) -> None:
    """One bug: what it is, which theorems it refutes, and the harm."""
    from rich.markup import escape

    bug = shown.bug
    state = "[green]found[/]" if shown.is_found else "[red]NOT FOUND[/]"
    console.print(f"{state}  [bold]{bug.id}[/] ({escape(bug.product)}): {escape(bug.story)}")
    if shown.problem:
        console.print(f"  {escape(shown.problem)}")
    if in_full:
        console.print(f"  violates {escape(bug.violates)}; {escape(bug.source)}")
        for patch in bug.patches:
            console.print(f"  {patch.file}")
            for mark, text in (("-", patch.old), ("+", patch.new)):
                for line in text.strip("\n").splitlines():
                    console.print(f"    [dim]{mark} {escape(line)}[/]")
    if bug.adapted:
        console.print(f"  here: {escape(bug.adapted)}")
    _print_proofs(console, shown, in_full=in_full)
    if shown.observed is not None:
        written, right = (
            "; ".join(_short(one) for one in side) for side in (shown.observed.written, bug.right)
        )
        console.print(f"  harm: {escape(bug.harm)}: guests write {escape(written)}, not {escape(right)}")
        if shown.observed.remark:
            console.print(f"  {escape(shown.observed.remark)}")


def _print_proofs(console: Console, shown: Shown, *, in_full: bool) -> None:
    from rich.markup import escape

    from checks.prover.terminal import values_table

    for result in shown.refuted:
        console.print(f"  refutes {escape(result.id)}: {escape(result.detail)}")
    if in_full and shown.refuted and (found := shown.refuted[-1].counterexample) is not None:
        console.print(values_table(found))
    if shown.replayed is not None:
        console.print(
            f"  the reference {'confirms' if shown.replayed else 'does not confirm'} the counterexample"
        )
        if in_full:
            console.print(escape(indent(shown.replay.rstrip(), "    ")))
    elif shown.refuted:
        console.print(
            "  [dim]the counterexample is no step of the VMM, so the reference has nothing to replay[/]"
        )


def _short(text: str) -> str:
    """What a guest wrote, not more than a few characters of it."""
    return repr(text) if len(text) <= 20 else f"{text[:20]!r}…"
