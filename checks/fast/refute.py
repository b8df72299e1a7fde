"""Whether proofs refute the known faults of the fast model, with cases that replay: `nonroot prove --faults`.

Each fault has a process of its own, `python -m checks.fast.refute THEOREM`, which finds the faulty text first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from checks.case import Case
from checks.fast.faults import Fault, faulty, run_module
from grammar.ir import Program

REFUTED = "REFUTED"
MOST_BATCHES, BATCH = 30, 128


@dataclass(frozen=True, slots=True)
class Refutation:
    """What came of the theorem that a fault refutes: its verdict, whether the case replays, and CPU seconds of all."""

    fault: Fault
    verdict: str
    replays: bool
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Refuted, with a case that shows it."""
        return self.verdict == REFUTED and self.replays


def refute_all(chosen: Sequence[Fault]) -> Iterator[Refutation]:
    """Tries the theorem of each fault in turn."""
    for fault in chosen:
        yield refute(fault)


def refute(fault: Fault) -> Refutation:
    """Proves the fault's theorem in a process that has the fault, and replays the counterexample there."""
    with faulty(fault) as environment:
        done, seconds = run_module(environment, "checks.fast.refute", fault.goal)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"verdict": f"ERROR: {done.stderr.strip().splitlines()[-1:]}", "replays": False}
    return Refutation(fault, str(found["verdict"]), bool(found["replays"]), seconds)


def main(goal: str) -> None:
    """Prints the verdict about one theorem of the fast model, and whether its counterexample replays, as JSON."""
    import z3

    import refmodel
    from checks.case import parse_case
    from checks.extract import extract
    from checks.fast.family import FastFamily
    from checks.fuzz.compare import Comparison
    from checks.fuzz.engines import FastEngine
    from checks.solve import GroupRunner, Limits

    model, family = refmodel.load(), FastFamily()
    outline = next(outline for outline in family.outlines(model.program) if goal in outline.ids)
    program = extract(model.program, outline.roots)
    group = family.build(program, outline.group, z3.Context(), frozenset((goal,)))
    result = GroupRunner(group, Limits(), None).prove(next(one for one in group.goals if one.id == goal))
    case = result.counterexample.case if result.counterexample is not None else None
    # The text itself, as plain Python: building each faulty one would take longer than all else.
    comparison = Comparison(model, lambda model: FastEngine(model, "python"))
    replays = case is not None and comparison.examine(parse_case(case)) is not None
    if not replays:
        replays = any(comparison.run(other) is not None for other in _others(model.program, goal))
    print(json.dumps({"verdict": result.status.name, "replays": replays}))


def _others(program: Program, goal: str) -> Iterator[Case]:
    """Random cases with the theorem's instruction.

    Where a counterexample has faults of memory, or products that are unknown functions, it has no values that replay.
    """
    from random import Random

    from checks.fuzz.generate import Generator

    name = goal.split(".")[1].split("/", maxsplit=1)[0]
    if name in program.instructions:
        generator, source = Generator(program, [name]), Random(goal)
        for _ in range(MOST_BATCHES):
            yield from generator.batch(source, BATCH)


if __name__ == "__main__":
    main(sys.argv[1])
