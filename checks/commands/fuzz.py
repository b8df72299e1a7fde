"""`nonroot fuzz`: compares two engines on random cases derived from the specification."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.fuzz.campaign import Outcome
    from checks.fuzz.compare import Comparison

SCHEMA_VERSION = 1
DEFAULT_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--engine",
        default="fast,reference",
        metavar="A,B",
        help="the engines to compare (default fast,reference)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"stop after S seconds (default {DEFAULT_SECONDS:g})"
    )
    parser.add_argument("--cases", type=int, metavar="N", help="stop after N cases")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the run that printed this seed")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("corpus"),
        metavar="DIR",
        help="cases that differ are kept here, and tried first by the next run (default corpus)",
    )
    parser.add_argument("--json", type=Path, metavar="F", help="write the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs a campaign; 0 if nothing differs, 1 if something does, 130 if it was interrupted."""
    import refmodel
    from checks.fuzz.campaign import Campaign, Limits
    from checks.fuzz.compare import Comparison
    from checks.fuzz.engines import pair_of
    from checks.fuzz.strategies import CaseStrategy

    tested, reference = pair_of(args.engine)
    model = refmodel.load(args.spec)
    comparison = Comparison(model, tested, reference)
    names = comparison.tested.instructions(model.program)
    first_seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    seconds = DEFAULT_SECONDS if args.seconds is None and args.cases is None else args.seconds
    status = _Status()
    campaign = Campaign(comparison, CaseStrategy(model.program, names), args.corpus, status.show)
    both = f"{comparison.tested.name} against {comparison.reference.name}"
    print(f"{both}, {len(names)} instructions, seed {first_seed}", flush=True)
    try:
        outcome = campaign.run(first_seed, Limits(seconds, args.cases))
    except KeyboardInterrupt:
        status.clear()
        print(
            f"interrupted after {campaign.outcome.cases} cases; what was found is in {args.corpus}",
            file=sys.stderr,
        )
        return 130
    status.clear()
    _report(outcome, comparison, args.spec)
    if args.json is not None:
        args.json.write_text(json.dumps(_document(outcome, comparison, first_seed), indent=1) + "\n")
    return 1 if outcome.divergences else 0


class _Status:
    """A line on the terminal that says how far the campaign is."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = 0.0

    def show(self, cases: int, seconds: float) -> None:
        """Shows it, a few times a second."""
        if self._live and seconds - self._shown > 0.2:
            self._shown = seconds
            print(f"\r{cases} cases, {seconds:.0f} s ", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the line."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _report(outcome: Outcome, comparison: Comparison, spec: Path | None) -> None:
    from checks.case import replay_command
    from checks.fuzz.report import describe

    for problem in outcome.corrupt:
        print(f"skipped: {problem}", file=sys.stderr)
    names = comparison.reference.name, comparison.tested.name
    for divergence, path in outcome.divergences:
        text = describe(divergence, comparison.model, names)
        print(f"\n{text}\n\n  replay it: {replay_command(path, spec)}\n")
    tally = comparison.tally
    corpus = f", {outcome.replayed} from the corpus" if outcome.replayed else ""
    corrupt = f", {len(outcome.corrupt)} corrupt files skipped" if outcome.corrupt else ""
    print(
        f"{outcome.cases} cases in {outcome.seconds:.1f} s{corpus}{corrupt}: {len(outcome.divergences)} divergences"
        f" ({tally.executed} instructions compared, {tally.refused} left to the reference,"
        f" {tally.not_modelled} not modelled)"
    )


def _document(outcome: Outcome, comparison: Comparison, first_seed: int) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "engines": [comparison.tested.name, comparison.reference.name],
        "seed": first_seed,
        "cases": outcome.cases,
        "seconds": round(outcome.seconds, 3),
        "replayed": outcome.replayed,
        "corrupt": outcome.corrupt,
        "instructions": vars(comparison.tally),
        "divergences": [
            {
                "file": str(path),
                "instruction": divergence.case.instruction,
                "code": divergence.case.code.hex(),
                "step": divergence.case.steps,
                "differences": [vars(difference) for difference in divergence.differences],
            }
            for divergence, path in outcome.divergences
        ],
    }
