"""`nonroot mutate`: small faults in the specification, each of which a theorem must notice."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from checks.mutate.campaign import Campaign, Run
    from checks.mutate.fates import Verdict
    from checks.mutate.memory import Memory

EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("items", nargs="*", metavar="ITEM", help="faults in these items only (CLTS, release)")
    parser.add_argument(
        "--family", action="append", default=[], metavar="F", help="judge by this family of theorems only"
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument(
        "--all",
        action="store_true",
        help="judge all mutants, not only the first of each operator in each item",
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", help="judge N of all mutants only, chosen at random"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the sample (0)")
    parser.add_argument(
        "--find-tests",
        action="store_true",
        help="where no theorem and no listed test notices a mutant, look for a test that does, and list it",
    )
    parser.add_argument("--no-cache", action="store_true", help="judge again what earlier runs have judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables of the results")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line a mutant")


def run(args: argparse.Namespace) -> int:
    """Judges mutants: 0 if each is killed, noticed by a test, equivalent or explained, 1 if some survived,
    130 if interrupted.

    It is 1 too if an explanation or a test in the lists is not needed any more.
    """
    import grammar
    from checks.mutate.campaign import Campaign
    from checks.output import output_console

    _check(args)
    campaign = Campaign(grammar.load(args.spec), args.family)
    chosen = _chosen(campaign, args)
    run = _run_of(args, campaign, chosen)
    found, interrupted = _judge(args, run)
    _report(output_console(), found, len(chosen))
    if args.find_tests:
        from checks.mutate.tested.listed import write_tests

        write_tests(run.listed)
    unneeded = [] if args.family else _unneeded(run, found)
    _write(args, campaign, found)
    if interrupted:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 1 if unneeded or any(verdict.fate.is_open for verdict in found) else 0


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError for options that make no sense."""
    from checks.mutate.targets import FAMILIES

    unknown = set(args.family) - set(FAMILIES)
    if unknown:
        raise UsageError(f"mutate: there is no family '{min(unknown)}' ({', '.join(FAMILIES)})")
    if args.jobs < 1 or (args.sample is not None and args.sample < 1):
        raise UsageError("mutate: -j and --sample must be above 0")
    if args.find_tests and args.family:
        raise UsageError(
            "mutate: --find-tests looks among what no family of theorems notices: not with --family"
        )


def _run_of(args: argparse.Namespace, campaign: Campaign, chosen: frozenset[int]) -> Run:
    """The run over some mutants; by one family of theorems alone, no tests are asked."""
    from checks.mutate.campaign import Run, Setup

    tests = None if args.family else _tests()
    if args.find_tests and tests is None:
        raise UsageError("mutate: --find-tests needs the project's tests, and pytest")
    setup = Setup(args.spec, args.family, tests, args.find_tests)
    return Run(campaign, set(chosen), setup, _memory(args, campaign))


def _tests() -> Path | None:
    """The folder of the tests; None, which is said, if they cannot be run."""
    from checks.mutate.tested.listed import FOLDER

    if FOLDER.is_dir() and find_spec("pytest") is not None:
        return FOLDER
    print(
        "without the project's tests and pytest: what only a test notices counts as survived", file=sys.stderr
    )
    return None


def _unneeded(run: Run, found: Sequence[Verdict]) -> Sequence[object]:
    """The explanations, and the tests, that are listed for nothing; they are told."""
    from checks.mutate.explanations import stale
    from checks.mutate.tested.listed import unneeded_tests

    mutants = run.campaign.mutants.values()
    old = stale(run.campaign.explanations, mutants, found)
    for one in old:
        print(f"explains nothing, and is to be removed: {one}", file=sys.stderr)
    tests = unneeded_tests(run.listed, mutants, found) if run.setup.tests is not None else []
    for item, test in tests:
        print(f"notices no mutant of {item}, and is to be removed: {test}", file=sys.stderr)
    return [*old, *tests]


def _write(args: argparse.Namespace, campaign: Campaign, found: Sequence[Verdict]) -> None:
    """The files that were asked for."""
    from checks.mutate.report import document, markdown, write_json
    from checks.output import write_text

    if args.markdown is not None:
        text = markdown(document(found), len(campaign.mutants), _command(args))
        write_text(args.markdown, text)
    if args.json is not None:
        write_json(found, args.json)


def _command(args: argparse.Namespace) -> str:
    """The command that judges the same mutants by the same families."""
    words = ["nonroot mutate", *args.items, *(f"--family {family}" for family in args.family)]
    words += ["--all"] if args.all else []
    words += [f"--sample {args.sample} --seed {args.seed}"] if args.sample is not None else []
    return " ".join(words)


def _chosen(campaign: Campaign, args: argparse.Namespace) -> frozenset[int]:
    """The mutants asked for: of items all, else the first of each operator.

    Raises UsageError for an item without any.
    """
    names = {mutant.name for mutant in campaign.mutants.values()}
    for item in args.items:
        if item not in names:
            raise UsageError(f"mutate: there is no mutant of '{item}'")
    if args.all or args.items or args.sample is not None:
        return campaign.sample(args.sample, args.seed, args.items)
    return campaign.first()


def _memory(args: argparse.Namespace, campaign: Campaign) -> Memory | None:
    """What earlier runs found out, if anything is to be remembered."""
    from checks.cache import NAME, ProofCache
    from checks.mutate.memory import Memory
    from grammar.cachedir import cache_directory

    directory = None if args.no_cache else cache_directory()
    if directory is None:
        return None
    return Memory.of(campaign.program, campaign.mutants, ProofCache(directory / NAME))


def _judge(args: argparse.Namespace, run: Run) -> tuple[list[Verdict], bool]:
    """The verdicts, and whether an interrupt ended it."""
    from checks.progress import Progress

    found: list[Verdict] = []
    total = len(run.alive)
    with Progress(beats=True) as progress:
        progress.show(lambda: f"{len(found)} of {total} mutants: {_counted(found)}")
        try:
            for verdict in run.verdicts(args.jobs):
                found.append(verdict)
                progress.show(lambda: f"{len(found)} of {total} mutants: {_counted(found)}")
                if args.verbose:
                    print(_line(verdict), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            return found, True
    return found, False


def _counted(found: Sequence[Verdict]) -> str:
    fates = Counter(str(verdict.fate) for verdict in found)
    return ", ".join(f"{n} {fate}" for fate, n in fates.most_common())


def _line(verdict: Verdict) -> str:
    by = f" ({verdict.by})" if verdict.by else ""
    return f"{verdict.fate:<10} {verdict.mutant.id}{by}"


def _report(console: Console, found: Sequence[Verdict], total: int) -> None:
    """What became of the mutants; those that survived one by one."""
    from rich.markup import escape

    for verdict in sorted((one for one in found if one.fate.is_open), key=lambda v: v.mutant.id):
        mutant = verdict.mutant
        console.print(f"[red]{verdict.fate}[/]  {escape(mutant.id)}\n  {escape(str(mutant.span))}: "
                      f"{escape(mutant.operator)}: {escape(mutant.description)}")  # fmt: skip
    console.print(f"{len(found)} of {total} mutants: {_counted(found)}")
    caught = [verdict.seconds for verdict in found if verdict.fate.is_caught]
    if caught:
        console.print(f"seconds to catch one: median {statistics.median(caught):.3f}, most {max(caught):.2f}")
