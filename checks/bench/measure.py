"""Measures engines side by side: repeats are interleaved, so that all see the same load, and medians are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from statistics import median

from checks.bench.engines import Engine, Run
from checks.bench.kernels import COMPUTE, KERNELS, Kernel
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.model import Model

SCHEMA_VERSION = 1
FAST = "fast"
WARM_UPS = 3  # runs of each engine that are not measured: those that translate do it then
# name: (the faster engine, the slower one); how many times as fast the first is.
RATIOS = {
    "fast_vs_unicorn": ("fast", "unicorn"),
    "fast_vs_reference": ("fast", "reference"),
    "fast_vs_bochs": ("fast", "bochs"),
    "native_vs_fast": ("native", "fast"),
    "interpreter_vs_unicorn": ("interpreter", "unicorn"),
    "interpreter_vs_reference": ("interpreter", "reference"),
    "interpreter_vs_bochs": ("interpreter", "bochs"),
    "native_vs_interpreter": ("native", "interpreter"),
}


class WrongResult(Exception):
    """An engine did not compute what a kernel computes."""


@dataclass(slots=True)
class Measurement:
    """One kernel: how many instructions it has, and by engine the median of seconds for one instruction."""

    kernel: Kernel
    instructions: int
    seconds: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str) -> float | None:
        """One of `RATIOS`, None if one of its engines was not there."""
        faster, slower = RATIOS[name]
        if faster not in self.seconds or slower not in self.seconds:
            return None
        return self.seconds[slower] / self.seconds[faster]

    def document(self) -> dict[str, object]:
        """For JSON."""
        rates = {name: 1e-6 / seconds for name, seconds in self.seconds.items()}
        ratios = {name: ratio for name in RATIOS if (ratio := self.ratio(name)) is not None}
        return {"instructions": self.instructions, "million_instructions_per_second": rates, "ratios": ratios}


def measure(
    model: Model, engines: Sequence[Engine], repeats: int, progress: Callable[[str], None]
) -> list[Measurement]:
    """All kernels on all engines.  Raises WrongResult."""
    encoder = Encoder(model.program)
    found = []
    for kernel in KERNELS:
        progress(kernel.name)
        found.append(_measure(kernel, assemble(kernel.text, encoder).code, engines, repeats))
    return found


def _measure(kernel: Kernel, code: bytes, engines: Sequence[Engine], repeats: int) -> Measurement:
    expected = kernel.expected()
    engines = [engine for engine in engines if engine.takes_data or not kernel.data]
    runs: dict[str, list[Run]] = {engine.name: [] for engine in engines}
    for number in range(WARM_UPS + repeats):
        for engine in engines:
            engine.prepare(kernel, code)
            run = engine.run()
            if run.result != expected and (run.result is not None or run.instructions is None):
                raise WrongResult(f"{kernel.name}: {engine.name} gives {run.result}, not {expected}")
            if number >= WARM_UPS:
                runs[engine.name].append(run)
    counted = [run for run in runs[FAST] if run.instructions is not None]
    if not counted or counted[0].result is None:
        raise WrongResult(f"{kernel.name}: the fast engine does not run it to its end")
    instructions = counted[0].instructions or 0
    seconds = {
        name: median(run.seconds / (run.instructions or instructions) for run in found)
        for name, found in runs.items()
    }
    return Measurement(kernel, instructions, seconds)


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean."""
    found = list(values)
    return float(prod(found) ** (1 / len(found)))


def overall_ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """The geometric means of the ratios over the compute kernels, of those engines that were there."""
    compute = [one for one in measurements if one.kernel in COMPUTE]
    found = {}
    for name in RATIOS:
        ratios = [ratio for one in compute if (ratio := one.ratio(name)) is not None]
        if ratios:
            found[name] = geometric_mean(ratios)
    return found


def rates_document(rates: Mapping[str, float], what: str) -> dict[str, object]:
    """For JSON: how many a second, by engine, and the ratios of those."""
    ratios = {
        name: rates[faster] / rates[slower]
        for name, (faster, slower) in RATIOS.items()
        if faster in rates and slower in rates
    }
    return {what: rates, "ratios": ratios}
