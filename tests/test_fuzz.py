"""The fuzzer: it finds handlers that were broken on purpose, shrinks, saves, replays, and survives what it meets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from checks.case import Case, parse_case, read_case, write_case
from checks.cli import main
from checks.fuzz.campaign import Campaign, Limits, Progress
from checks.fuzz.compare import Comparison
from checks.fuzz.engines import DONE, Factory, FastEngine
from checks.fuzz.strategies import CaseStrategy
from fastmodel import backends
from fastmodel.handlers import HANDLERS
from fastmodel.handlers.registry import Handler
from refmodel.model import Model
from refmodel.vectors import CaseError

SEED = 1
LIMITS = Limits(seconds=60, cases=None, shrink=20)  # a broken handler is found in a fraction of it


def quiet(_cases: int, _seconds: float) -> None:
    pass


@contextmanager
def broken_handlers(victim: str, other: str, cache: Path) -> Iterator[None]:
    """The handlers of one instruction have the bindings of another's, such as its operation.

    What is compiled from them goes into a cache of its own.
    """
    of_other = {(h.widths, h.form): h for h in HANDLERS if h.instruction == other}
    changed = [
        broken(h, of_other.get((h.widths, h.form))) if h.instruction == victim else h for h in HANDLERS
    ]
    assert changed != HANDLERS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "HANDLERS", changed)
        backends.choose.cache_clear()
        with pytest.MonkeyPatch.context() as compiling:
            compiling.setenv("NONROOT_CACHE", str(cache))
            backends.choose(None)
        yield
    backends.choose.cache_clear()


def broken(handler: Handler, other: Handler | None) -> Handler:
    return handler if other is None else replace(handler, function=other.function, bindings=other.bindings)


def campaign(
    model: Model, factory: Factory, names: list[str] | None, corpus: Path, progress: Progress = quiet
) -> Campaign:
    comparison = Comparison(model, factory)
    names = names or list(comparison.tested.instructions(model.program))
    return Campaign(comparison, CaseStrategy(model.program, names), corpus, progress)


def test_a_broken_handler_is_found_among_all(model: Model, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    with broken_handlers("XOR", "OR", tmp_path):
        outcome = campaign(model, FastEngine, None, corpus).run(SEED, LIMITS)
        ((divergence, path),) = outcome.divergences
        assert divergence.case.instruction == "XOR"
        assert list(corpus.iterdir()) == [path]
        assert main(["replay", str(path)]) == 0, "confirmed"
    assert main(["replay", str(path)]) == 1, "the handler is whole again"


class Wrong(FastEngine):
    """Executes as the fast model does, and then inverts CF if the instruction was ADC."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._decoder = model.decoder

    def step(self) -> str:
        code = self.machine.PHYSICAL.read_bytes(self.machine.RIP, 15)
        outcome = super().step()
        if outcome == DONE:
            instruction = self._decoder.decode(code).instruction
            self.machine.RFLAGS ^= instruction is not None and instruction.name == "ADC"
        return outcome


def test_a_case_is_shrunk_to_what_matters(model: Model, tmp_path: Path) -> None:
    outcome = campaign(model, Wrong, ["ADC", "MOV", "CMP", "PUSH"], tmp_path).run(SEED, LIMITS)
    ((divergence, _),) = outcome.divergences
    case = divergence.case
    assert (case.instruction, case.steps, case.base) == ("ADC", 1, "kernel")
    assert [d.item for d in divergence.differences] == ["RFLAGS"]


def test_the_fast_model_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "result.json"
    corpus = tmp_path / "corpus"
    assert (
        main(["fuzz", "--cases", "300", "--seed", "5", "--corpus", str(corpus), "--json", str(report)]) == 0
    )
    document = json.loads(report.read_text())
    assert document["schema_version"] == 1
    assert document["cases"] == 300
    assert document["divergences"] == []
    assert document["instructions"]["executed"] > 150, "most of what is drawn is executed by the fast model"
    assert "300 cases" in capsys.readouterr().out


def test_undefined_flags_are_no_difference(model: Model) -> None:
    """AND leaves AF undefined: an engine that inverts it is right, one that inverts ZF is not."""

    class Inverting(FastEngine):
        flag = 1 << 4

        def step(self) -> str:
            outcome = super().step()
            if outcome == DONE:
                self.machine.RFLAGS ^= self.flag
            return outcome

    case = Case("fuzz", "fuzz", bytes.fromhex("21d8"), base="kernel", state={"RIP": 0x10000, "GPR[0]": 5})
    assert Comparison(model, Inverting).run(case) is None
    Inverting.flag = 1 << 6
    divergence = Comparison(model, Inverting).run(case)
    assert divergence is not None
    assert [d.item for d in divergence.differences] == ["RFLAGS"]


def test_corrupt_files_are_reported_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Case("fuzz", "fuzz", b"\x90", base="kernel", state={"RIP": 0x10000})
    write_case(tmp_path / "good.json", good)
    write_case(tmp_path / "unknown.json", replace(good, state={"NO_SUCH_REGISTER": 1}))
    write_case(tmp_path / "wide.json", replace(good, state={"GPR[0]": 1 << 64}))
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "binary.json").write_bytes(b"\xff\x00\xfe")
    (tmp_path / "other.json").write_text('{"format": "something else"}')
    assert main(["fuzz", "--cases", "1", "--seed", "1", "--corpus", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "5 corrupt files skipped" in output.out
    assert output.err.count("skipped: ") == 5


def test_interrupt_while_shrinking_reports_what_was_found(model: Model, tmp_path: Path) -> None:
    def interrupt(_cases: int, _seconds: float) -> None:
        if any(tmp_path.iterdir()):
            raise KeyboardInterrupt

    outcome = campaign(model, Wrong, ["ADC"], tmp_path, interrupt).run(SEED, LIMITS)
    ((_, path),) = outcome.divergences
    assert Comparison(model, Wrong).run(read_case(path)) is not None


def test_interrupt_keeps_the_corpus(tmp_path: Path) -> None:
    """Ctrl-C while cases are drawn: status 130, no traceback, and the corpus is as it was."""
    write_case(tmp_path / "kept.json", Case("fuzz", "fuzz", b"\x90", base="kernel", state={"RIP": 0x10000}))
    command = [sys.executable, "-m", "checks", "fuzz", "--seconds", "100", "--corpus", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "seed" in process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_the_same_seed_draws_the_same_cases(model: Model, tmp_path: Path) -> None:
    class Recording(Comparison):
        def run(self, case: Case) -> None:
            seen.append(case)

    runs = []
    for _ in range(2):
        seen: list[Case] = []
        strategy = CaseStrategy(model.program, ["ADD", "PUSH"])
        Campaign(Recording(model, FastEngine), strategy, tmp_path, lambda _c, _s: None).run(
            3, Limits(None, 40)
        )
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 40


@pytest.mark.parametrize("engines", ["fast", "fast,fast", "fast,nonsense", "a,b,c", ""])
def test_engines_are_checked(engines: str) -> None:
    expected = 0 if engines == "fast" else 2
    assert (
        main(["fuzz", "--engine", engines, "--cases", "1", "--seed", "1", "--corpus", "/nonexistent"])
        == expected
    )


def test_a_case_survives_its_file(tmp_path: Path) -> None:
    case = Case(
        kind="fuzz",
        id="fuzz",
        code=b"\x01\xd8",
        instruction="ADD",
        base="guest-user",
        steps=2,
        state={"GPR[3]": 1 << 63},
        memory=((0x30000, b"ab"),),
        expected={"RFLAGS": 2},
        columns=("reference", "fast"),
        text="text",
    )
    write_case(tmp_path / "case.json", case)
    assert read_case(tmp_path / "case.json") == case


@pytest.mark.parametrize(
    "change", [{"kind": "?"}, {"code": "xyz"}, {"steps": 0}, {"state": 5}, {"columns": [1]}]
)
def test_malformed_case(change: dict[str, object]) -> None:
    document = Case("fuzz", "fuzz", b"\x90").document()
    parse_case(document)
    with pytest.raises(CaseError):
        parse_case({**document, **change})
