"""The fuzzer: it finds handlers that were broken on purpose, shrinks, saves, replays, and survives what it meets."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest

import fastmodel
from checks.case import Case, parse_case, read_case, write_case
from checks.cli import main
from checks.fuzz import corpus as corpus_module
from checks.fuzz import engines
from checks.fuzz.bases import (
    BASES,
    DATA,
    DIRECTORY,
    EPT_DIRECTORY,
    EPT_PDPT,
    EPT_PML4,
    EPT_TABLE,
    PAGE_SIZE,
    PDPT,
    TABLE_RANGES,
)
from checks.fuzz.campaign import Campaign, Limits, Outcome, Progress
from checks.fuzz.compare import Comparison
from checks.fuzz.corpus import Corpus
from checks.fuzz.coverage import Coverage, covered_model
from checks.fuzz.cycle import DONE
from checks.fuzz.difference import Divergence
from checks.fuzz.engines import Factory, FastEngine
from checks.fuzz.full_speed import CODES, STATES, FullSpeed
from checks.fuzz.generate import Generator
from checks.fuzz.long import LongCampaign
from checks.fuzz.program_comparison import ProgramComparison
from checks.fuzz.programs import Programs
from checks.fuzz.tables import TableChanges
from fastmodel import FastEngine as FastRows
from fastmodel import backends, routines
from fastmodel.handlers import HANDLERS
from fastmodel.handlers.registry import Handler
from fastmodel.rows import ROW_RFLAGS, ROW_STEPS, ROW_WORDS
from refmodel.model import Model
from refmodel.vectors import CaseError

SEED = 1
LARGE = 0x80  # of a page-table entry
FRAME = 0xFF_FFFF_F000
GUEST_TABLE_RANGE, _ = TABLE_RANGES
EPT_TABLE_RANGE = range(EPT_TABLE, EPT_TABLE + PAGE_SIZE)
LIMITS = Limits(seconds=60, cases=None, shrink=20)  # a broken handler is found in a fraction of it


def quiet(_outcome: Outcome, _coverage: Coverage) -> None:
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
        patch.setattr(routines, "HANDLERS", changed)
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
    covered = Comparison(covered_model(model), factory)
    names = names or list(covered.tested.instructions(model.program))
    return Campaign(
        covered,
        Coverage(covered.model, "cycle", names),
        lambda: Comparison(model, factory),
        Generator(model.program, names),
        Corpus(corpus),
        progress,
    )


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
    class Interrupted(Comparison):
        def examine(self, case: Case) -> Divergence | None:
            if any(tmp_path.iterdir()):
                raise KeyboardInterrupt
            return super().examine(case)

    fuzzing = campaign(model, Wrong, ["ADC"], tmp_path)
    fuzzing.plain = Interrupted(model, Wrong)
    ((_, path),) = fuzzing.run(SEED, LIMITS).divergences
    assert Comparison(model, Wrong).run(read_case(path)) is not None


def test_interrupt_keeps_the_corpus(tmp_path: Path) -> None:
    """Ctrl-C while cases are drawn: status 130, no traceback, and the corpus is as it was."""
    write_case(tmp_path / "kept.json", Case("fuzz", "fuzz", b"\x90", base="kernel", state={"RIP": 0x10000}))
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background job ignores it
    runs = f"from checks.cli import main; exit(main(['fuzz', '--seconds', '100', '--corpus', {str(tmp_path)!r}]))"
    command = [sys.executable, "-c", f"{listens}; {runs}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "seed" in process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_the_same_seed_draws_the_same_cases(model: Model) -> None:
    generators = [Generator(model.program, ["ADD", "PUSH"]) for _ in range(2)]
    first, second = (generator.batch(Random(3), 40) for generator in generators)
    assert first == second
    assert len({case.code for case in first}) >= 10


def test_page_tables_are_of_every_shape(model: Model) -> None:
    """Large pages, with reserved bits or without, and pages that EPT lets be read but not written."""
    generator, source = Generator(model.program, ["MOV"]), Random(0)
    cases = [case for _ in range(64) for case in generator.batch(source, 64)]
    words = {(place, int.from_bytes(data, "little")) for case in cases for place, data in case.memory}
    for entry in (PDPT, DIRECTORY):
        offsets = {word & 0x1FE000 for place, word in words if place == entry and word & LARGE}
        assert 0 in offsets, entry
        assert len(offsets) > 3, entry
    of_guest = {word & FRAME for place, word in words if place in GUEST_TABLE_RANGE}
    assert of_guest.isdisjoint({EPT_PML4, EPT_PDPT, EPT_DIRECTORY, EPT_TABLE}), "the VMM's"
    rights = {word & 7 for place, word in words if place in EPT_TABLE_RANGE}
    assert rights >= {5, 6}, "not writable, not readable"


def test_entries_whose_change_reached_something_new_are_drawn_more_often() -> None:
    drawn = []
    for rewarded in (False, True):
        changes, source = TableChanges(), Random(0)
        if rewarded:
            changes.reward([DATA, EPT_TABLE + 8 * (DATA // PAGE_SIZE)])
        entries = [changes.draw(source, "guest-user", [DATA]) for _ in range(600)]
        drawn.append(sum(entry.place == EPT_TABLE + 8 * (DATA // PAGE_SIZE) for entry in entries))
    assert 20 < drawn[0] < 80, "one of 12"
    assert drawn[1] > 2 * drawn[0]


def test_clauses_that_were_not_reached_are_drawn_more_often(model: Model, tmp_path: Path) -> None:
    fuzzing = campaign(model, FastEngine, ["ADD", "SHL"], tmp_path)
    coverage = fuzzing.coverage
    coverage.forget()
    assert coverage.reached == 0
    assert coverage.weights()["SHL"] > 3
    fuzzing.run(SEED, Limits(None, 512))
    never = {" ".join(clause) for clause in coverage.never_reached()}
    assert coverage.weights()["SHL"] < 1.5
    assert not any("shift.isa" in text for text in never)
    assert any("cycle.isa" in text for text in never), "no case lets the preemption timer run down"


def test_a_seed_of_a_long_campaign_is_kept_if_nothing_else_reaches_as_much(
    model: Model, tmp_path: Path
) -> None:
    covered = Comparison(covered_model(model), FastEngine)
    coverage = Coverage(covered.model, "cycle", ["ADD", "SHL"])
    coverage.forget()
    generator = Generator(model.program, ["ADD", "SHL"])
    long = LongCampaign(covered, coverage, lambda: covered, generator, Corpus(tmp_path), quiet)
    long.run(SEED, Limits(None, 512, divergences=None))
    seeds = list((tmp_path / "seeds").iterdir())
    reached = coverage.reached
    assert 0 < len(seeds) < 40
    coverage.forget()
    for seed in seeds:
        covered.run(read_case(seed))
    assert coverage.reached == reached
    assert main(["replay", str(seeds[0])]) == 1, "the engines agree"


def test_a_long_campaign_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    corpus = ["--corpus", str(tmp_path), "--instruction", "ADD"]
    report = tmp_path / "report.json"
    for _ in range(2):
        assert main(["fuzz", "--mode", "batch", "--cases", "300", *corpus, "--json", str(report)]) == 0
    document = json.loads(report.read_text())
    assert document["cases"] == 600
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["batch"], state["seed"]) == (2, document["seed"])
    (tmp_path / "state.json").write_text("{")
    assert main(["fuzz", "--mode", "batch", "--cases", "1", *corpus, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["cases"] == 1
    assert "state.json" in json.loads(report.read_text())["corrupt"][0]


def test_what_cannot_be_written_is_printed(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(corpus_module, "write_document", full)
    monkeypatch.setitem(engines.ENGINES, "fast", Wrong)  # type: ignore[misc]
    assert main(["fuzz", "--mode", "ci", "--instruction", "ADC", "--corpus", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "not written: " in errors
    assert "No space left on device" in errors
    printed = next(line for line in errors.splitlines() if line.startswith("could not be written"))
    assert Comparison(model, Wrong).run(parse_case(json.loads(printed.partition("it is: ")[2]))) is not None


def test_ci_writes_junit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    junit = tmp_path / "out" / "fuzz.xml"
    arguments = ["fuzz", "--mode", "ci", "--cases", "300", "--instruction", "ADC", "--instruction", "SUB"]
    arguments += ["--corpus", str(tmp_path), "--junit", str(junit)]
    assert main(arguments) == 0
    assert ET.parse(junit).getroot().attrib["failures"] == "0"
    monkeypatch.setitem(engines.ENGINES, "fast", Wrong)  # type: ignore[misc]
    assert main(arguments) == 1
    suite = ET.parse(junit).getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")
    failure = suite.find("testcase[@name='ADC']/failure")
    assert failure is not None
    assert "nonroot replay" in (failure.text or "")


@pytest.mark.parametrize("names", ["fast", "fast,fast", "fast,nonsense", "a,b,c", "", "reference"])
def test_engines_are_checked(names: str) -> None:
    expected = 0 if names == "fast" else 2
    assert (
        main(["fuzz", "--engine", names, "--cases", "1", "--seed", "1", "--corpus", "/nonexistent"])
        == expected
    )


@pytest.mark.parametrize(
    "option", [["--cases", "0"], ["--seconds", "-1"], ["--cases", "x"], ["--mode", "fast"]]
)
def test_numbers_are_checked(option: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["fuzz", *option])
    assert error.value.code == 2


def test_an_instruction_that_the_engine_lacks_is_an_error() -> None:
    assert main(["fuzz", "--instruction", "NO_SUCH"]) == 2


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


def test_rows_that_differ_become_cases(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    names = ["XOR", "ADD"]
    full_speed = FullSpeed(model, Generator(model.program, names))
    run = FastRows.run_cases

    def run_wrongly(engine: FastRows, rows: array[int]) -> None:
        run(engine, rows)
        for row in range(0, len(rows), ROW_WORDS):
            rows[row + ROW_RFLAGS] ^= rows[row + ROW_STEPS] != 0

    monkeypatch.setattr(FastRows, "run_cases", run_wrongly)
    found = [row.case for row in full_speed.batch(SEED)]
    assert 1 < len(found) <= CODES, "one of each code"
    assert {case.instruction for case in found} == set(names)
    assert all(Comparison(model, FastEngine).decide(case) is None for case in found[:2]), "not confirmed"


def test_nothing_differs_at_full_speed(model: Model) -> None:
    pytest.importorskip("llvmlite")
    names = FastEngine(model).instructions(model.program)
    full_speed = FullSpeed(model, Generator(model.program, names))
    assert [row for _ in range(4) for row in full_speed.batch(SEED)] == []
    assert full_speed.speed.cases == 4 * CODES * STATES


def test_known_faults_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """One of those that `nonroot fuzz --faults` tries."""
    assert main(["fuzz", "--faults", "inc-keeps-of-with-cf"]) == 0
    assert "1 of 1 faults found" in capsys.readouterr().out


def test_unknown_faults_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--faults", "no-such-fault"]) == 2
    assert "no-such-fault" in capsys.readouterr().err


def test_replaying_a_case_on_which_the_engines_agree_is_status_1(tmp_path: Path) -> None:
    case = Case("fuzz", "fuzz", b"\x90", base="kernel", state={"RIP": 0x10000}, columns=("reference", "fast"))
    write_case(tmp_path / "case.json", case)
    assert main(["replay", str(tmp_path / "case.json")]) == 1


def test_programs_agree_and_reach_what_they_are_for(model: Model) -> None:
    comparison = ProgramComparison(model)
    programs = Programs(model.program, FastEngine(model).instructions(model.program), BASES)
    source = Random(4)
    for base in BASES:
        for _ in range(2):
            assert comparison.examine(programs.case(source, base)) is None
    assert comparison.tally.instructions > 200 * comparison.tally.programs
    assert comparison.tally.vm_exits > 0


def test_a_program_that_differs_is_shrunk_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault that shows only where several instructions run at once."""
    run = fastmodel.FastEngine.run

    def wrong(engine: fastmodel.FastEngine, steps: int) -> int:
        done = run(engine, steps)
        engine.machine.GPR[12] ^= done > 3
        return done

    arguments = ["fuzz", "--programs", "--cases", "20", "--seed", "1", "--corpus", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(fastmodel.FastEngine, "run", wrong)
        assert main(arguments) == 1
        (path,) = tmp_path.glob("*.json")
        assert main(["replay", str(path)]) == 0
    assert "GPR[12]" in capsys.readouterr().out
    assert main(["replay", str(path)]) == 1
    assert len(read_case(path).code.strip(b"\x90")) < 30


def test_only_the_fast_model_runs_programs() -> None:
    assert main(["fuzz", "--engine", "unicorn", "--programs", "--cases", "1"]) == 2
