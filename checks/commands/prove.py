"""`nonroot prove`: proves theorems and says which hold."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from checks.prover.selection import Task
    from checks.prover.worker import Loaded, Setup
    from checks.theorem import Result, Status
    from grammar.ir import Program

CASES = Path("counterexamples")
SOLVERS = ("z3", "cvc5", "bitwuzla", "all")
EXIT_INTERRUPTED = 130
EXIT_DIFFERENT = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="ID",
        help="ids or globs of theorems, or the name of an instruction (default: all)",
    )
    _add_ways(parser.add_argument_group("how to prove"))
    _add_checks(parser.add_argument_group("what else to check"))
    _add_results(parser.add_argument_group("results"))


def _add_ways(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-j", "--jobs", type=int, metavar="N", help="processes (default: one a processor)")
    group.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds for one question to the solver (60)"
    )
    group.add_argument(
        "--solver",
        choices=SOLVERS,
        default="z3",
        help="who decides (z3); with 'all', solvers that contradict each other are an error",
    )
    group.add_argument("--no-cache", action="store_true", help="do not use the results of earlier runs")
    group.add_argument(
        "--shuffle", type=int, metavar="SEED", help="prove in a random order, which changes no result"
    )


def _add_checks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--witnesses",
        action="store_true",
        help="then run on the reference the states that show the theorems not to be vacuous: an instruction must"
        " complete, a step be taken, a guest be entered as the witness says (-v: one line each)",
    )
    group.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="the JSON of an earlier run: say which verdicts, witnesses and questions differ, and end with status 5",
    )
    group.add_argument(
        "--faults",
        nargs="*",
        metavar="FAULT",
        help="instead, put each known fault into the fast model (all without names), and see that its theorem is"
        " refuted, with a case that replays",
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    group.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML")
    group.add_argument(
        "--cases", type=Path, default=CASES, metavar="DIR", help=f"where to write counterexamples ({CASES}/)"
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="one line a theorem, and all failures in full"
    )


def run(args: argparse.Namespace) -> int:
    """Proves; see the command line's help for the exit status."""
    from checks.prover.selection import NoMatchError, select
    from checks.prover.worker import Loaded

    if args.faults is not None:
        return _refute_faults(args.faults)
    if args.timeout <= 0 or (args.jobs is not None and args.jobs < 1):
        raise UsageError("prove: --timeout and -j must be above 0")
    loaded = Loaded.of(args.spec)
    try:
        tasks = select(loaded.program, loaded.families, args.patterns)
    except NoMatchError as error:
        raise UsageError(f"prove: {error}") from None
    earlier = _earlier(args.compare)
    proved = _prove(args, loaded, tasks)
    status = max(_report(args, *proved), _compare(proved[0], earlier))
    return (
        max(status, _replay_witnesses(loaded.program, tasks, is_verbose=args.verbose))
        if args.witnesses
        else status
    )


def _earlier(path: Path | None) -> dict[str, dict[str, object]] | None:
    from checks.prover.comparison import RecordError, read

    try:
        return read(path) if path is not None else None
    except RecordError as error:
        raise UsageError(f"prove: {error}") from None


def _compare(results: Sequence[Result], earlier: dict[str, dict[str, object]] | None) -> int:
    """Prints what differs from an earlier run; status 5 if anything does."""
    from checks.prover.comparison import differences

    if earlier is None:
        return 0
    found = list(differences(results, earlier))
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(results)} results compared with {len(earlier)} earlier ones: {len(found)} differences")
    return EXIT_DIFFERENT if found else 0


def _refute_faults(names: Sequence[str]) -> int:
    """A line for each fault of the fast model; status 1 if its theorem is not refuted, or the case does not replay."""
    from checks.fast.faults import chosen_faults
    from checks.fast.refute import refute_all

    chosen, failures = chosen_faults(names), 0
    for found in refute_all(chosen):
        failures += not found.is_whole
        how = "replays" if found.replays else "NO CASE THAT REPLAYS"
        print(
            f"{found.fault.id:34} {found.verdict:8} {found.fault.goal}, {how}, {found.seconds:.1f} s",
            flush=True,
        )
    print(f"{len(chosen) - failures} of {len(chosen)} faults refuted with a case that replays")
    return 1 if failures else 0


def _replay_witnesses(program: Program, tasks: Sequence[Task], *, is_verbose: bool) -> int:
    """Prints each witness that the reference contradicts, and how many it confirms; status 1 if there is one."""
    from collections import Counter, defaultdict

    import z3

    from checks.extract import extract
    from checks.families import families
    from checks.progress import tracked
    from checks.solve import Limits
    from checks.witnesses import replay_witnesses
    from refmodel.model import build

    known, model = families(), build(program)
    counts, reasons = (defaultdict[str, Counter[str]](Counter) for _ in range(2))
    for task in tracked(tasks, "groups of witnesses run"):
        group = known[task.family].build(extract(program, task.roots), task.group, z3.Context(), task.ids)
        for found in replay_witnesses(group, model, Limits()):
            family = found.goal.split(".")[0]
            counts[family][found.kind] += 1
            reasons[family].update([found.why_not] if found.why_not else [])
            if found.is_wrong:
                print(
                    f"{found.goal}: the witness {found.witness}, the reference {found.outcome}",
                    file=sys.stderr,
                )
            if is_verbose:
                print(f"{found.goal}: {found.kind}{': ' if found.why_not else ''}{found.why_not}")
    for family, of_family in counts.items():
        said = ", ".join(f"{count} {what}" for what, count in of_family.most_common())
        print(f"{family}: {of_family.total()} witnesses on the reference: {said}")
        for reason, count in reasons[family].most_common():
            print(f"  {count} not run: {reason}")
    return 1 if any(one["wrong"] for one in counts.values()) else 0


def _prove(args: argparse.Namespace, loaded: Loaded, tasks: Sequence[Task]) -> tuple[list[Result], bool]:
    """The results, and whether it was interrupted."""
    from checks.progress import Progress
    from checks.prover.pool import Pool
    from checks.prover.selection import in_order
    from checks.prover.terminal import Counts

    interrupted = False
    total = sum(len(task.ids) for task in tasks)
    setup = _setup(args)
    results, left = _recalled(loaded.program, in_order(tasks, args.shuffle), setup)
    pool = Pool(left, setup, loaded, args.jobs or os.cpu_count() or 1)
    counts = Counts(total)
    for known in results:
        counts.add(known)
    with pool, Progress(start=args.began) as progress:
        try:
            for result in pool.results():  # None now and then, for the clock to move
                if result is not None:
                    counts.add(result)
                    results.append(result)
                progress.show(counts.text)
        except KeyboardInterrupt:
            interrupted = True
    return results, interrupted


def _setup(args: argparse.Namespace) -> Setup:
    from checks.cache import NAME
    from checks.prover.worker import Setup
    from checks.solve import Limits, versioned
    from checks.solvers.text import SolverError, chosen
    from grammar.cachedir import cache_directory

    directory = None if args.no_cache else cache_directory()
    solvers = chosen(args.solver)
    try:
        for solver in solvers:
            versioned(solver)
    except SolverError as error:
        raise UsageError(f"prove: {error}") from None
    return Setup(
        args.spec, Limits(seconds=args.timeout), directory / NAME if directory is not None else None, solvers
    )


def _recalled(program: Program, tasks: Sequence[Task], setup: Setup) -> tuple[list[Result], Iterable[Task]]:
    """What the cache knows, and the tasks that are left; the cache is closed, since processes are forked hereafter."""
    from checks.cache import ProofCache
    from checks.prover.memo import Memo

    if setup.cache is None:
        return [], tasks
    cache = ProofCache(setup.cache)
    found = Memo(program, cache, setup.solvers).recall(tasks)
    cache.close()
    if cache.warning:
        print(f"nonroot: {cache.warning}", file=sys.stderr)
    return found


def _report(args: argparse.Namespace, results: Sequence[Result], interrupted: bool) -> int:
    from checks.output import output_console
    from checks.prover import records
    from checks.prover.terminal import print_failures, print_table
    from checks.theorem import Status
    from grammar import default_directory

    console = output_console()
    directory = args.spec or default_directory()
    print_table(console, results, time.monotonic() - args.began, verbose=args.verbose)
    failures = sorted((r for r in results if r.status is not Status.PROVED), key=lambda r: r.id)
    cases = _write_cases(args.cases, failures)
    print_failures(console, failures, cases, args.spec, verbose=args.verbose)
    records.remember_verdicts(results, directory)
    if args.json is not None:
        records.write_json(results, args.json)
    if args.junit is not None:
        records.write_junit(results, args.junit)
    if interrupted:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return exit_status({result.status for result in results})


def exit_status(found: set[Status]) -> int:
    """The exit status for these verdicts, the worst first."""
    from checks.theorem import Status

    by_status = {
        Status.ERROR: 5,
        Status.DISAGREEMENT: 5,
        Status.REFUTED: 1,
        Status.VACUOUS: 4,
        Status.UNKNOWN: 3,
        Status.TIMEOUT: 3,
    }
    return next((code for status, code in by_status.items() if status in found), 0)


def _write_cases(directory: Path, failures: Sequence[Result]) -> dict[str, Path]:
    """Writes the counterexamples that can be replayed, one file each; their paths by id."""
    from checks.output import write_document

    written: dict[str, Path] = {}
    for result in failures:
        if result.counterexample is not None and result.counterexample.case is not None:
            path = directory / (re.sub(r"[^\w.]+", "-", result.id) + ".json")
            write_document(path, result.counterexample.case)
            written[result.id] = path
    return written
