"""`nonroot check`: every error of the specification, each with its place."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from checks.agreement.report import Results
    from grammar import Diagnostic


EXIT_INTERRUPTED = 130


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
        help="compare the opcode tables with iced-x86 too: half a minute, or all of some 20 million codes: 15 minutes",
    )
    parser.add_argument(
        "--decoder",
        choices=("sample", "all"),
        help="compare the fast model's decoder with the reference's: some seconds, or 4.5 million codes: five minutes",
    )
    agreement = parser.add_argument_group("the two back ends")
    agreement.add_argument(
        "--agreement",
        type=int,
        metavar="N",
        help="evaluate N random states of every instruction, shared by its forms, through the symbolic terms that"
        " proofs are made from, and through the reference model: both must do the same; where no state takes a path of"
        " the terms, the solver is asked for one (2000 states: a minute)",
    )
    agreement.add_argument(
        "--seed",
        type=int,
        metavar="S",
        default=0,
        help="other states than those of continuous integration (0)",
    )
    agreement.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the errors; status 2 if there are any."""
    import grammar
    from grammar.diagnostics import located
    from grammar.files import check_directory, check_files
    from refmodel.overlaps import overlaps

    if args.agreement is not None and args.agreement < 1:
        raise UsageError("check: --agreement must be above 0")
    if args.json is not None and args.agreement is None:
        raise UsageError("check: --json is for --agreement N")
    if args.files:
        program, diagnostics, sources = check_files(args.files, args.spec)
    else:
        program, diagnostics, sources = check_directory(args.spec or grammar.default_directory())
    if not diagnostics:
        diagnostics = [error for error in overlaps(program) if sources.keys() & _files(error)]
    if not args.files:
        diagnostics, sources = located(diagnostics, sources, args.spec)
    for diagnostic in diagnostics:
        print(grammar.render(diagnostic, sources), file=sys.stderr)
    if diagnostics:
        print(f"{len(diagnostics)} error{'s' * (len(diagnostics) != 1)}", file=sys.stderr)
        return 2
    print(f"{len(sources)} file{'s' * (len(sources) != 1)}: no errors")
    status = _compare_encodings(args) if args.encodings else 0
    status = max(status, _compare_decoders(args) if args.decoder else 0)
    return max(status, _compare_back_ends(args) if args.agreement else 0)


def _files(error: Diagnostic) -> set[str]:
    return {error.span.file, *(place.file for place, _ in error.notes)}


def _compare_decoders(args: argparse.Namespace) -> int:
    """Prints what the fast model decodes otherwise than the reference; status 1 if there is something."""
    import refmodel
    from checks.fast.decoding import Decoders, codes
    from checks.progress import tracked

    decoders = Decoders(refmodel.load(args.spec))
    count = differing = 0
    chosen = codes(all_of_them=args.decoder == "all")
    for code in tracked(chosen, "codes decoded"):
        count += 1
        if difference := decoders.difference(code):
            differing += 1
            print(f"{code.hex(' ')}: {difference}", file=sys.stderr)
    print(f"{count:,} codes: {decoders.refused:,} left to the reference, {differing:,} decoded differently")
    return 1 if differing else 0


def _compare_back_ends(args: argparse.Namespace) -> int:
    """Prints each form of which the terms and the reference do not do the same; status 1 if there is one."""
    from checks.agreement.report import Results
    from checks.output import write_document

    results = Results(args.seed)
    interrupted = False
    try:
        _agree(args, results)
    except KeyboardInterrupt:
        interrupted = True
    for line in results.lines():
        print(line)
    if args.json is not None:
        write_document(args.json, results.document())
    return EXIT_INTERRUPTED if interrupted else results.status


def _agree(args: argparse.Namespace, results: Results) -> None:
    """Compares form by form, and prints what is not as it should be."""
    import grammar
    from checks.agreement.compare import Comparison
    from checks.agreement.report import problems
    from checks.progress import tracked
    from refmodel.model import build

    comparison = Comparison(build(grammar.load(args.spec)), args.seed)
    forms = [(form, share) for share, forms in comparison.shared(args.agreement) for form in forms]
    for form, share in tracked(forms, "forms compared"):
        found = comparison.compare(form, share)
        results.add(found, form.instruction.name)
        for line in problems(found):
            print(line, file=sys.stderr)


def _compare_encodings(args: argparse.Namespace) -> int:
    """Prints where iced-x86 reads codes differently; status 1 if that has no known reason."""
    import grammar
    from checks.encodings import Comparison, every_code, sampled_codes
    from checks.progress import tracked
    from grammar.widths import CODE_SIZES

    program = grammar.load(args.spec)
    agreed = 0
    reasons: Counter[str] = Counter()
    for code_size in CODE_SIZES:
        comparison = Comparison(program, code_size)
        is_sample = args.encodings == "sample"
        codes = sampled_codes(code_size) if is_sample else every_code(code_size, comparison.plain)
        shown = tracked(codes, f"codes of {code_size} bits read")
        for difference in comparison.differences(shown):
            reasons[difference.reason] += 1
            if not difference.reason:
                print(f"in code of {code_size} bits: {difference}", file=sys.stderr)
        agreed += comparison.agreed
    for reason, count in reasons.items():
        if reason:
            print(f"{count} codes differ: {reason}")
    print(f"{agreed} codes are read alike, {reasons['']} differ without a reason")
    return 1 if reasons[""] else 0
