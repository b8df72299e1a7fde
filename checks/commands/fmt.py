"""`nonroot fmt`: lays out specification files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="files to lay out (default: the specification)"
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; name the files that would change, status 1"
    )


def run(args: argparse.Namespace) -> int:
    """Rewrites what is not laid out; a file that cannot be read as a specification is left alone, status 2."""
    import grammar

    files = args.files or sorted((args.spec or grammar.default_directory()).rglob("*.isa"))
    status = 0
    for path in files:
        try:
            text, formatted = _formatted(path)
        except grammar.SpecificationError as error:
            print(error.render(), file=sys.stderr)
            status = 2
            continue
        if formatted != text:
            _change(path, formatted, check=args.check)
            status = max(status, int(args.check))
    return status


def _formatted(path: Path) -> tuple[str, str]:
    """The text of a file, and the same laid out.  Raises SpecificationError."""
    from grammar import SpecificationError
    from grammar.format import format_text
    from grammar.parse import read_source

    text, errors = read_source(path, str(path))
    if errors:
        raise SpecificationError(errors, {})
    return text, format_text(text, str(path))


def _change(path: Path, formatted: str, *, check: bool) -> None:
    from checks.output import write_text

    if check:
        print(f"{path}: would be laid out differently")
    else:
        write_text(path, formatted)
        print(f"{path}: laid out")
