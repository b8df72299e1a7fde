"""Draws the JSON of `nonroot bench` as bars.

python docs/figures/bench.py docs/figures/bench.json docs/figures/bench.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

ENGINES = {
    "native": "the processor",
    "fast": "fast",
    "interpreter": "fast, not translated",
    "unicorn": "Unicorn",
    "bochs": "Bochs",
}
KERNELS = ("alu", "memory", "calls", "walks")


def draw(document: dict[str, dict[str, dict[str, dict[str, float]]]], target: Path) -> None:
    """One group of bars for each kernel."""
    mpl.rcParams["svg.hashsalt"] = "nonroot"  # the same figures give the same file
    figure, axes = plt.subplots(figsize=(7, 3.2))
    first = document["kernels"][KERNELS[0]]["million_instructions_per_second"]
    engines = {name: label for name, label in ENGINES.items() if name in first}
    width = 0.8 / len(engines)
    for n, (name, label) in enumerate(engines.items()):
        rates = [document["kernels"][k]["million_instructions_per_second"].get(name, 0) for k in KERNELS]
        axes.bar([k + n * width for k in range(len(KERNELS))], rates, width, label=label)
    axes.set_xticks([k + 1.5 * width for k in range(len(KERNELS))], KERNELS)
    axes.set_yscale("log")
    axes.set_ylabel("million instructions a second")
    axes.legend(ncols=len(engines), fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
