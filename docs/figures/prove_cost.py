"""What proofs cost as the specification grows: measures it, and draws the figure.

python docs/figures/prove_cost.py measure docs/figures/prove_cost.json
python docs/figures/prove_cost.py draw docs/figures/prove_cost.json docs/figures/prove_cost.svg

Instructions and steps are proved in a random order, the cost is summed up. For guests and processors, copies of the
specification have other widths of their numbers, and all about isolation is proved again. All is CPU time of one
process.
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import z3

import grammar
from checks.extract import extract
from checks.families import families
from checks.prover.selection import Task, select
from checks.solve import GroupRunner, Limits
from checks.theorem import Family, Status
from grammar.garbage import no_garbage_collection
from grammar.ir import Program

WIDTHS = {
    "type Vm = bits(8)": "type Vm = bits({guests})",
    "vm as bits(8)": "(vm as bits({guests}))[7..0]",
    "argument[7..0] as Vm": "argument[{high}..0] as Vm",
    "type Cpu = bits(3)": "type Cpu = bits({processors})",
    "cpu as bits(3)": "cpu as bits({processors})",
    "LAST_CPU as bits(3)": "LAST_CPU as bits({processors})",
    "for cpu in 0..7": "for cpu in 0..{last}",
}
"""Where the specification says how many bits the numbers of guests and processors have."""
GUEST_BITS, PROCESSOR_BITS = (8, 12, 16, 20), (1, 2, 3, 4, 6, 8)
REPEATS = 2
Points = list[tuple[float, ...]]
"""What it grows with, CPU seconds, and what the solver counts as its work, in millions: the same on every machine."""


@dataclass(slots=True)
class Prover:
    """What proves groups of theorems about a program."""

    program: Program
    known: dict[str, Family] = field(default_factory=families)

    def tasks(self, pattern: str) -> list[Task]:
        """The groups to prove."""
        return list(select(self.program, self.known, [pattern]))

    def cost(self, task: Task) -> tuple[float, float]:
        """The CPU time that building and solving a group takes, and the solver's work in millions."""
        with no_garbage_collection():  # as the prover does it
            start, work = time.process_time(), 0
            roots = extract(self.program, task.roots)
            group = self.known[task.family].build(roots, task.group, z3.Context(), task.ids)
            for result in GroupRunner(group, Limits()).run():
                if result.id in task.ids and result.status is not Status.PROVED:
                    raise SystemExit(f"{result.id}: {result.status}")
                work += result.rlimit
            seconds = time.process_time() - start
        del group
        gc.collect(1)
        return seconds, work / 1e6


def growth(prover: Prover, pattern: str) -> Points:
    """The number of instruction forms, or of steps, and the cost so far."""
    tasks = [t for t in prover.tasks(pattern) if t.roots is not None]
    tasks = [t for t in tasks if t.roots is not None and (t.roots.instructions or t.roots.steps)]
    random.Random(0).shuffle(tasks)
    points: Points = [(0, 0.0, 0.0)]
    for task in tasks:
        number, total, total_work = points[-1]
        seconds, work = prover.cost(task)
        forms = len({one.rsplit(".", 1)[0] for one in task.ids}) if task.family == "trap" else 1
        points.append((number + forms, round(total + seconds, 3), round(total_work + work, 3)))
        print(*points[-1], task.group, file=sys.stderr)
    return points


def with_bits(guests: int, processors: int) -> Program:
    """The specification, in which guests and processors have numbers of so many bits."""
    numbers = {
        "guests": guests,
        "high": guests - 1,
        "processors": processors,
        "last": (1 << processors) - 1,
    }
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "spec"
        shutil.copytree(grammar.default_directory(), copy)
        for path in (copy / "vmm").glob("*.isa"):
            text = path.read_text(encoding="utf-8")
            for old, new in WIDTHS.items():
                text = text.replace(old, new.format_map(numbers))
            path.write_text(text, encoding="utf-8")
        return grammar.load(copy)


def flat(kinds: dict[str, list[tuple[int, int]]]) -> dict[str, Points]:
    """By kind, the number of bits and the cost of all about isolation, for numbers of (guests, processors) in bits.

    Each group is proved with all numbers in turn, since machines become slower and faster, and the least of some
    repeats counts.
    """
    provers = {one: Prover(with_bits(*one)) for every in kinds.values() for one in every}
    seconds, work = dict.fromkeys(provers, 0.0), dict.fromkeys(provers, 0.0)
    for same_group in zip(*(prover.tasks("isolation") for prover in provers.values()), strict=True):
        pairs = list(zip(provers.items(), same_group, strict=True))
        costs = [[(one, prover.cost(task)) for (one, prover), task in pairs] for _ in range(REPEATS)]
        for one in provers:
            own = [cost for repeat in costs for number, cost in repeat if number == one]
            seconds[one] += min(cost for cost, _ in own)
            work[one] += min(cost for _, cost in own)
        print(same_group[0].group, *(round(one, 2) for one in seconds.values()), file=sys.stderr)
    return {
        kind: [(one[kind == "processors"], round(seconds[one], 3), round(work[one], 3)) for one in every]
        for kind, every in kinds.items()
    }


def measure(target: Path) -> None:
    """Measures all, and writes it as JSON."""
    prover = Prover(grammar.load())
    document = {
        "schema_version": 1,
        "instructions": growth(prover, "trap"),
        "transitions": growth(prover, "isolation"),
        **flat({"guests": [(n, 3) for n in GUEST_BITS], "processors": [(8, n) for n in PROCESSOR_BITS]}),
    }
    target.write_text(json.dumps(document, indent=None) + "\n", encoding="utf-8")


def draw(document: dict[str, Points], target: Path) -> None:
    """Two curves that should be straight, two that should be level."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "nonroot"  # the same figures give the same file
    figure, (first, second, third) = plt.subplots(1, 3, figsize=(9, 3))
    for axes, name, label in (
        (first, "instructions", "instruction forms (trap)"),
        (second, "transitions", "steps (isolation)"),
    ):
        numbers, seconds, _ = zip(*document[name], strict=True)
        axes.plot(numbers, seconds)
        axes.plot([0, numbers[-1]], [0, seconds[-1]], linestyle=":", color="grey")
        axes.set_xlabel(label)
    for name, label in (("guests", "guests"), ("processors", "processors")):
        bits, seconds, _ = zip(*document[name], strict=True)
        third.plot([1 << one for one in bits], seconds, marker="o", label=label)
    third.set_xscale("log", base=2)
    third.set_ylim(0, 1.2 * third.get_ylim()[1])
    third.set_xlabel("of how many")
    third.legend()
    first.set_ylabel("CPU seconds")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", target]:
            measure(Path(target))
        case ["draw", source, target]:
            draw(json.loads(Path(source).read_text(encoding="utf-8")), Path(target))
        case _:
            raise SystemExit(__doc__)
