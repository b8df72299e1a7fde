"""`nonroot bench`: measures the engines side by side."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from checks.bench.engines import Engine
    from checks.bench.measure import Measurement
    from refmodel.model import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="runs of each kernel on each engine (5)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Measures; 1 if an engine computes something else than it should."""
    import refmodel
    from checks.bench.exits import exits_per_second
    from checks.bench.measure import WrongResult, measure, overall_ratios
    from checks.bench.short_cases import short_cases_per_second
    from checks.output import write_document

    if args.repeats < 1:
        raise UsageError("bench: --repeats must be above 0")
    if find_spec("llvmlite") is None:
        raise UsageError(
            "bench needs llvmlite (pip install llvmlite): as plain Python the kernels take too long"
        )
    model = refmodel.load(args.spec)
    engines, absent = engines_here(model)
    try:
        measurements = measure(model, engines, args.repeats, lambda name: _say(f"{name} ..."))
        _say("short cases ...")
        cases = short_cases_per_second(model, args.repeats)
    except WrongResult as error:
        print(f"nonroot: {error}", file=sys.stderr)
        return 1
    _say("exits ...")
    exits = exits_per_second(model, args.repeats)
    ratios = overall_ratios(measurements)
    if args.json is not None:
        found = {"repeats": args.repeats, "absent": absent, "ratios": ratios}
        write_document(
            args.json, {**_circumstances(), **found, "kernels": _kernels(measurements, exits, cases)}
        )
    _print(measurements, ratios)
    for name, reason in absent.items():
        print(f"Not measured: {name} ({reason})")
    for what, rates in (("Short cases", cases), ("VM exits", exits)):
        print(f"{what} a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()))
    return 0


def _circumstances() -> dict[str, object]:
    from checks.bench.measure import SCHEMA_VERSION

    return {
        "schema_version": SCHEMA_VERSION,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def _kernels(
    measurements: Sequence[Measurement], exits: Mapping[str, float], cases: Mapping[str, float]
) -> dict[str, object]:
    from checks.bench.measure import rates_document

    return {
        **{one.kernel.name: one.document() for one in measurements},
        "exits": rates_document(exits, "vm_exits_per_second"),
        "short_cases": rates_document(cases, "cases_per_second"),
    }


def engines_here(model: Model) -> tuple[list[Engine], dict[str, str]]:
    """Those that can run here, and why the others cannot, by name."""
    from checks.bench.every import ENGINES

    engines: list[Engine] = []
    absent: dict[str, str] = {}
    for name, make in ENGINES.items():
        try:
            engines.append(make(model))
        except ImportError as error:
            absent[name] = str(error)
    return engines, absent


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(measurements: Sequence[Measurement], ratios: Mapping[str, float]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from checks.bench.measure import RATIOS
    from checks.output import output_console

    table = Table(box=SIMPLE, title="How many times as fast the first is as the second", title_justify="left")
    table.add_column("")
    for one in measurements:
        table.add_column(one.kernel.name, justify="right")
    table.add_column("compute kernels", justify="right")
    for name, (faster, slower) in RATIOS.items():
        if name in ratios:
            cells = [_figure(one.ratio(name)) for one in measurements]
            table.add_row(f"{faster} : {slower}", *cells, _figure(ratios[name]))
    console = output_console()
    console.print(table)
    console.print(_rates(measurements))
    for one in measurements:
        print(f"  {one.kernel.name:8}{one.kernel.summary}, {one.instructions:,} instructions")
    print()


def _figure(value: float | None) -> str:
    """Three digits, or all of the integer part."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _rates(measurements: Sequence[Measurement]) -> object:
    """Millions of instructions a second of CPU time, by kernel and engine."""
    from rich.box import SIMPLE
    from rich.table import Table

    names = list(measurements[0].seconds)
    table = Table(box=SIMPLE, title="Millions of instructions a second", title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for one in measurements:
        rates = (1e-6 / one.seconds[name] if name in one.seconds else None for name in names)
        table.add_row(one.kernel.name, *map(_figure, rates))
    return table
