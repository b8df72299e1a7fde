"""`nonroot fuzz`: compares an engine with the reference on random cases derived from the specification."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from checks.fuzz.campaign import Campaign, Outcome
    from checks.fuzz.coverage import Coverage
    from checks.fuzz.engines import Engine
    from checks.fuzz.full_speed import FullSpeed
    from checks.fuzz.generate import Generator
    from checks.fuzz.program_comparison import ProgramRuns
    from checks.progress import Progress
    from grammar.ir import Program
    from refmodel.model import Model

SCHEMA_VERSION = 1
DEFAULT_SECONDS = {"quick": 30.0, "ci": 60.0, "batch": None}
DEFAULT_SHRINK = 8.0  # seconds
CI_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    _add_subjects(parser.add_argument_group("what is compared"))
    _add_limits(parser.add_argument_group("how long"))
    _add_results(parser.add_argument_group("what is kept and told"))


def _add_subjects(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        default="fast,reference",
        metavar="A,B",
        help="what to compare with the reference: fast (default), compiled, unicorn, bochs; alone or with ',reference'",
    )
    group.add_argument(
        "--instruction",
        action="append",
        metavar="NAME",
        help="draw this instruction only, and try only its cases in the corpus (may be given more than once)",
    )
    group.add_argument(
        "--programs",
        action="store_true",
        help="run generated programs only (loops, faults, page-table edits, code that changes)",
    )
    group.add_argument(
        "--faults",
        nargs="*",
        metavar="ID",
        help="put each known fault into the fast model (all without IDs), and see that --mode ci finds it in time",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mode",
        choices=tuple(DEFAULT_SECONDS),
        default="quick",
        help="quick: random cases for a while (default); ci: the same cases each time; "
        "batch: until interrupted, goes on where the last run with this corpus stopped, and grows the corpus",
    )
    group.add_argument(
        "--seconds",
        type=_positive(float),
        metavar="S",
        help="stop after S seconds (quick 30, ci 60, batch never)",
    )
    group.add_argument(
        "--cpu-time",
        action="store_true",
        help="the seconds are those of the processor: for a machine that is busy",
    )
    group.add_argument("--cases", type=_positive(int), metavar="N", help="stop after N cases")
    group.add_argument(
        "--shrink",
        type=_positive(float),
        metavar="S",
        default=DEFAULT_SHRINK,
        help=f"make a case that differs smaller for S seconds at most (default {DEFAULT_SHRINK:g})",
    )
    group.add_argument("--seed", type=int, metavar="N", help="repeat the run that printed this seed (ci: 0)")


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--corpus",
        type=Path,
        default=Path("corpus"),
        metavar="DIR",
        help="cases that differ are kept here, and tried first by the next run (default corpus)",
    )
    group.add_argument("--coverage", action="store_true", help="list the clauses that were never reached")
    group.add_argument("--json", type=Path, metavar="F", help="write the result as JSON")
    group.add_argument("--junit", type=Path, metavar="F", help="write the result as JUnit XML")


def _positive(kind: type[int | float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value: float = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return number


def run(args: argparse.Namespace) -> int:
    """Runs a campaign; 0 if nothing differs, 1 if something does, 130 if it was interrupted."""
    from checks.progress import Progress

    if args.faults is not None:
        return _find_faults(args)
    progress = Progress()
    campaign = _campaign(args, progress)
    seed = args.seed
    if seed is None:
        seed = CI_SEED if args.mode == "ci" else random.SystemRandom().randrange(1 << 32)
    names = campaign.coverage.names
    print(f"{campaign.engine} against the reference, {len(names)} instructions, seed {seed}", flush=True)
    seconds = args.seconds
    if seconds is None and (args.cases is None or args.mode == "ci"):
        seconds = DEFAULT_SECONDS[args.mode]
    with progress:
        interrupted = _is_interrupted(campaign, args, seed, seconds)
    _report(campaign, args)
    if interrupted:
        print(
            f"interrupted after {campaign.outcome.cases} cases; what was found is in {args.corpus}",
            file=sys.stderr,
        )
        return 130
    return 1 if campaign.outcome.divergences else 0


def _is_interrupted(campaign: Campaign, args: argparse.Namespace, seed: int, seconds: float | None) -> bool:
    """Runs it to its end, or until an interrupt."""
    from checks.fuzz.campaign import Limits

    clock = time.process_time if args.cpu_time else time.monotonic
    divergences = None if args.mode == "batch" else 1
    try:
        campaign.run(seed, Limits(seconds, args.cases, args.shrink, divergences, clock))
    except KeyboardInterrupt:
        return True
    return False


def _progress_text(outcome: Outcome, coverage: Coverage) -> str:
    found = f", {len(outcome.divergences)} divergences" if outcome.divergences else ""
    return f"{outcome.cases} cases, {coverage.reached} of {coverage.total} clauses{found}"


def _campaign(args: argparse.Namespace, progress: Progress) -> Campaign:
    import refmodel
    from checks.fuzz.campaign import Campaign
    from checks.fuzz.compare import Comparison
    from checks.fuzz.corpus import Corpus
    from checks.fuzz.coverage import Coverage, covered_model
    from checks.fuzz.engines import tested_engine
    from checks.fuzz.generate import Generator
    from checks.fuzz.long import LongCampaign

    factory = tested_engine(args.engine)
    model = refmodel.load(args.spec)
    covered = Comparison(covered_model(model), factory)
    names = _chosen(covered.tested, model.program, args.instruction)
    is_fast = covered.tested.name == "fast"
    if args.programs and not is_fast:
        raise UsageError("--programs: only the fast model runs programs")
    kind = LongCampaign if args.mode == "batch" else Campaign
    generator = Generator(model.program, names, covered.tested.scope)
    campaign = kind(
        covered,
        Coverage(covered.model, covered.tested.cycle.root, names),
        lambda: Comparison(model, factory),
        generator,
        Corpus(args.corpus, args.instruction),
        lambda outcome, coverage: progress.show(partial(_progress_text, outcome, coverage)),
        None if not is_fast or args.programs else _full_speed(model, generator),
    )
    if is_fast:
        campaign.programs = _programs(model, names, are_all=args.programs)
    return campaign


def _programs(model: Model, names: Sequence[str], *, are_all: bool) -> ProgramRuns:
    from checks.fuzz.bases import BASES
    from checks.fuzz.program_comparison import ProgramComparison, ProgramRuns
    from checks.fuzz.programs import Programs

    return ProgramRuns(ProgramComparison(model), Programs(model.program, names, BASES), are_all=are_all)


def _full_speed(model: Model, generator: Generator) -> FullSpeed | None:
    """The comparison with the compiled reference; None, which is said, where nothing can be compiled."""
    from checks.fuzz.full_speed import FullSpeed

    try:
        return FullSpeed(model, generator)
    except ImportError:
        print("llvmlite is not installed: nothing is compared at full speed", file=sys.stderr)
        return None


def _find_faults(args: argparse.Namespace) -> int:
    """A line for each fault; 1 if one is not found."""
    from statistics import median

    from checks.fast.faults import chosen_faults
    from checks.fuzz.faults import find_all
    from checks.output import write_document

    chosen, times, findings = chosen_faults(args.faults), [], []
    for finding in find_all(chosen, args.seconds or DEFAULT_SECONDS["ci"] or 0):
        findings.append(finding.document())
        if args.json is not None:
            write_document(args.json, {"schema_version": SCHEMA_VERSION, "faults": findings})
        if finding.is_found:
            times.append(finding.until_found)
        how = (
            f"found with {finding.instruction}, {finding.until_found:.1f} s"
            if finding.is_found
            else "NOT FOUND"
        )
        print(f"{finding.fault.id:34} {how} ({finding.seconds:.1f} s in all)", flush=True)
    print(
        f"{len(times)} of {len(chosen)} faults found; CPU seconds, the build of the fast model among them:",
        end=" ",
    )
    print(f"median {median(times):.1f}, at most {max(times):.1f}" if times else "none")
    return 1 if len(times) < len(chosen) else 0


def _chosen(tested: Engine, program: Program, wanted: Sequence[str] | None) -> Sequence[str]:
    known = tested.instructions(program)
    for name in wanted or ():
        if name not in program.instructions:
            raise UsageError(
                f"--instruction {name}: there is no such instruction (`nonroot list` lists them)"
            )
        if name not in known:
            why = (
                "it has no handler, and runs as the specification compiled; try --engine compiled"
                if tested.name == "fast"
                else "it needs more than registers, flags and memory"
            )
            raise UsageError(f"--instruction {name}: nothing to compare on {tested.name}: {why}")
    return wanted or known


def _report(campaign: Campaign, args: argparse.Namespace) -> None:
    from checks.case import replay_command
    from checks.fuzz.coverage import clause_text
    from checks.fuzz.junit import write_junit
    from checks.fuzz.report import describe, summary
    from checks.output import write_document

    outcome, coverage = campaign.outcome, campaign.coverage
    for problem in campaign.corpus.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    for failure in campaign.corpus.failures:
        print(f"not written: {failure}", file=sys.stderr)
    for divergence, path in outcome.divergences:
        text = describe(divergence, campaign.plain.model, divergence.case.columns, args.spec)
        print(f"\n{text}\n\n  replay it: {replay_command(path, args.spec)}\n")
    for case in campaign.corpus.unwritten:
        print(f"could not be written, here it is: {json.dumps(case.document())}", file=sys.stderr)
    if args.coverage:
        print("clauses never reached:")
        for clause in coverage.never_reached():
            print(f"  {clause_text(clause)}")
    print(summary(campaign))
    if args.json is not None:
        write_document(args.json, _document(campaign))
    if args.junit is not None:
        write_junit(args.junit, f"fuzz.{campaign.engine}", coverage.names, outcome)


def _document(campaign: Campaign) -> dict[str, object]:
    from checks.fuzz.coverage import clause_text

    outcome, coverage = campaign.outcome, campaign.coverage
    return {
        "schema_version": SCHEMA_VERSION,
        "engines": [campaign.engine, "reference"],
        "seed": campaign.seed,
        "cases": outcome.cases,
        "seconds": round(outcome.seconds, 3),
        "cpu_seconds_until_first": outcome.first_found and round(outcome.first_found, 3),
        "replayed": outcome.replayed,
        "programs": None if campaign.programs is None else vars(campaign.programs.comparison.tally),
        "full_speed": None if campaign.full_speed is None else vars(campaign.full_speed.speed),
        "corrupt": campaign.corpus.problems,
        "instructions": vars(campaign.tally),
        "clauses": {
            "total": coverage.total,
            "reached": coverage.reached,
            "never_reached": [clause_text(clause) for clause in coverage.never_reached()],
        },
        "divergences": [
            {
                "file": str(path),
                "instruction": divergence.case.instruction,
                "code": divergence.case.code.hex(),
                "step": divergence.case.steps,
                "differences": [
                    {"item": d.item, "reference": d.reference, "tested": d.tested}
                    for d in divergence.differences
                ],
            }
            for divergence, path in outcome.divergences
        ],
    }
