"""`nonroot asm`: assembly source to a flat image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from checks.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("source", type=Path, metavar="FILE", help="assembly source, Intel syntax")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="where to write the flat image")
    parser.add_argument("--listing", action="store_true", help="print addresses and bytes beside the source")


def run(args: argparse.Namespace) -> int:
    """Assembles the file; prints every error of it and returns 2 if there are any."""
    import grammar
    from refmodel.assembler import AssemblyErrors, assemble_file
    from refmodel.encoder import Encoder

    if args.output is None and not args.listing:
        raise UsageError("asm: say where to write with -o OUT, or ask for --listing")
    try:
        assembled = assemble_file(args.source, Encoder(grammar.load(args.spec)))
    except AssemblyErrors as errors:
        print(errors, file=sys.stderr)
        return 2
    if args.output is not None:
        args.output.write_bytes(assembled.code)
    if args.listing:
        for row in assembled.listing:
            print(f"{row.line:5} {row.address:016x} {row.code[:12].hex():24} {row.text}")
    else:
        print(f"{args.output}: {len(assembled.code)} bytes, to be loaded at {assembled.origin:#x}")
    return 0
