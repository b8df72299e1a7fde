"""What proofs cost as the specification grows: measures it, and draws the figure.

python docs/figures/prove_cost.py measure docs/figures/prove_cost.json
python docs/figures/prove_cost.py draw docs/figures/prove_cost.json docs/figures/prove_cost.svg

Instructions and steps are proved in a random order, the cost is summed up. For guests and processors, copies of the
specification have other widths of their numbers, and the same steps are proved again. All is CPU time of one process.
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import z3

import grammar
from checks.extract import extract
from checks.families import families
from checks.prover.selection import Task, select
from checks.solve import GroupRunner, Limits
from checks.theorem import Status
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
GUEST_BITS, PROCESSOR_BITS = (8, 10, 12, 16, 20), (1, 2, 3, 4, 6, 8)
REPEATS = 2
Points = list[tuple[int, float]]


def proved(program: Program, tasks: list[Task]) -> Iterator[tuple[Task, float]]:
    """Each task with the CPU time that building and solving takes."""
    known = families()
    for task in tasks:
        start = time.process_time()
        group = known[task.family].build(extract(program, task.roots), task.group, z3.Context(), task.ids)
        for result in GroupRunner(group, Limits()).run():
            if result.id in task.ids and result.status is not Status.PROVED:
                raise SystemExit(f"{result.id}: {result.status}")
        yield task, time.process_time() - start


def growth(program: Program, pattern: str) -> Points:
    """The number of instruction forms, or of steps, and the cost so far."""
    tasks = [t for t in select(program, families(), [pattern]) if t.roots is not None]
    tasks = [t for t in tasks if t.roots is not None and (t.roots.instructions or t.roots.steps)]
    random.Random(0).shuffle(tasks)
    points: Points = [(0, 0.0)]
    for task, seconds in proved(program, tasks):
        number, total = points[-1]
        forms = len({one.rsplit(".", 1)[0] for one in task.ids}) if task.family == "trap" else 1
        points.append((number + forms, round(total + seconds, 3)))
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


def flat(bits: tuple[int, ...], *, are_guests: bool) -> Points:
    """The number of bits, and the cost of all about isolation: of each group the least of some repeats."""
    found: Points = []
    for one in bits:
        program = with_bits(one, 3) if are_guests else with_bits(8, one)
        tasks = select(program, families(), ["isolation"])
        gc.freeze()  # the collector shall not go through the program while something is measured
        runs = [[seconds for _, seconds in proved(program, tasks)] for _ in range(REPEATS)]
        found.append((one, round(sum(map(min, *runs)), 3)))
        print(*found[-1], "guests" if are_guests else "processors", file=sys.stderr)
    return found


def measure(target: Path) -> None:
    """Measures all, and writes it as JSON."""
    program = grammar.load()
    document = {
        "schema_version": 1,
        "instructions": growth(program, "trap"),
        "transitions": growth(program, "isolation"),
        "guests": flat(GUEST_BITS, are_guests=True),
        "processors": flat(PROCESSOR_BITS, are_guests=False),
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
        numbers, seconds = zip(*document[name], strict=True)
        axes.plot(numbers, seconds)
        axes.plot([0, numbers[-1]], [0, seconds[-1]], linestyle=":", color="grey")
        axes.set_xlabel(label)
    for name, label in (("guests", "guests"), ("processors", "processors")):
        bits, seconds = zip(*document[name], strict=True)
        third.plot([1 << one for one in bits], seconds, marker="o", label=label)
    third.set_xscale("log", base=2)
    third.set_ylim(bottom=0)
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
