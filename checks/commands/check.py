"""`nonroot check`: every error of the specification, each with its place."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from checks.commands.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="files to report on, checked together with the rest of the specification (default: all of it)",
    )
    parser.add_argument(
        "--encodings",
        choices=("sample", "all"),
        help="compare the opcode tables with iced-x86 too: about a minute, or all of some 100 million codes",
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
    return _compare_encodings(args) if args.encodings else 0


def _compare_encodings(args: argparse.Namespace) -> int:
    """Prints where iced-x86 reads codes differently; status 1 if that has no known reason, or if rows overlap."""
    import grammar
    from grammar.widths import CODE_SIZES

    try:
        from checks.encodings import Comparison, every_code, overlaps, sampled_codes
    except ModuleNotFoundError as error:
        raise UsageError(f"check --encodings needs {error.name} (pip install 'nonroot[oracles]')") from None
    program = grammar.load(args.spec)
    failures = agreed = 0
    for line in overlaps(program):
        print(f"overlap: {line}", file=sys.stderr)
        failures += 1
    reasons: Counter[str] = Counter()
    codes = sampled_codes if args.encodings == "sample" else every_code
    for code_size in CODE_SIZES:
        comparison = Comparison(program, code_size)
        for difference in comparison.differences(codes(code_size)):
            reasons[difference.reason] += 1
            if not difference.reason:
                print(f"in code of {code_size} bits: {difference}", file=sys.stderr)
        agreed += comparison.agreed
    for reason, count in reasons.items():
        if reason:
            print(f"{count} codes differ: {reason}")
    failures += reasons[""]
    print(f"{agreed} codes are read alike, {failures} differ without a reason or overlap")
    return 1 if failures else 0
