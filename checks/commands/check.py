"""`nonroot check`: every error of the specification, each with its place."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="files to report on, checked together with the rest of the specification (default: all of it)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the errors; status 2 if there are any."""
    import grammar
    from grammar.files import check_directory, check_files

    if args.files:
        diagnostics, sources = check_files(args.files, args.spec)
    else:
        _, diagnostics, sources = check_directory(args.spec or grammar.default_directory())
    for diagnostic in diagnostics:
        print(grammar.render(diagnostic, sources), file=sys.stderr)
    if diagnostics:
        print(f"{len(diagnostics)} error{'s' * (len(diagnostics) != 1)}", file=sys.stderr)
        return 2
    print(f"{len(sources)} file{'s' * (len(sources) != 1)}: no errors")
    return 0
