"""`nonroot bench`: kernels compute what they should on every engine, and ratios are what they say."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import replace

import pytest

from checks.bench.bochs import Bochs
from checks.bench.engines import Engine, Fast, Native
from checks.bench.kernels import COMPUTE, KERNELS, Kernel
from checks.bench.measure import Measurement, WrongResult, measure, overall_ratios
from checks.bench.short_cases import short_cases_per_second
from checks.commands import bench
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.model import Model

pytest.importorskip("llvmlite")  # as plain Python the kernels take too long
needs_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="runs x86-64 code natively"
)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("make", [Fast, pytest.param(Native, marks=needs_linux)])
def test_kernels_compute_what_is_expected(model: Model, kernel: Kernel, make: type[Fast | Native]) -> None:
    code = assemble(kernel.text, Encoder(model.program)).code
    engine = make(model)
    engine.prepare(kernel, code)
    assert engine.run().result == kernel.expected()


def test_a_wrong_result_is_reported(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(COMPUTE[2], expected=lambda: 0)
    monkeypatch.setattr("checks.bench.measure.KERNELS", (wrong,))
    with pytest.raises(WrongResult, match="calls: fast gives 832040, not 0"):
        measure(model, [Fast(model)], 1, lambda _name: None)


def test_short_cases_compute_the_same_in_batches_and_on_unicorn(model: Model) -> None:
    rates = short_cases_per_second(model, 1)
    assert rates["fast"] > 0


def test_bochs_computes_what_is_expected_where_it_is_installed(model: Model) -> None:
    if shutil.which("bochs") is None:
        pytest.skip("Bochs is not installed")
    kernel = COMPUTE[0]
    bochs = Bochs(model)
    bochs.prepare(kernel, assemble(kernel.text, Encoder(model.program)).code)
    assert bochs.run().result == kernel.expected()


def test_an_engine_that_is_not_there_is_named_with_the_reason(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bochs(_model: Model) -> Engine:
        raise ImportError("no bochs on PATH")

    monkeypatch.setattr("checks.bench.every.ENGINES", {"fast": Fast, "bochs": no_bochs})
    engines, absent = bench.engines_here(model)
    assert [engine.name for engine in engines] == ["fast"]
    assert absent == {"bochs": "no bochs on PATH"}


def test_ratios_are_geometric_means_over_the_compute_kernels() -> None:
    rates = ((1.0, 2.0), (1.0, 8.0), (1.0, 4.0))
    found = [
        Measurement(kernel, 1, {"fast": fast, "unicorn": unicorn})
        for kernel, (fast, unicorn) in zip(COMPUTE, rates, strict=True)
    ]
    found.append(Measurement(KERNELS[-1], 1, {"fast": 1.0, "unicorn": 1000.0}))
    assert overall_ratios(found) == {"fast_vs_unicorn": pytest.approx(4.0)}
