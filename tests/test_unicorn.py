"""The reference against Unicorn, an emulator that shares nothing with it."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

from checks.cli import main
from checks.fuzz import engines
from checks.fuzz.compare import Comparison
from checks.fuzz.generate import Generator
from checks.fuzz.known import DIRECTORY
from checks.fuzz.report import describe
from refmodel.model import Model

pytest.importorskip("unicorn")

CASES_PER_FORM = 2


@pytest.fixture(scope="module")
def comparison(model: Model) -> Comparison:
    return Comparison(model, engines.tested_engine("unicorn"))


def test_every_form_agrees(model: Model, comparison: Comparison) -> None:
    """Each form of each instruction that needs no more than registers, flags and memory, at CPL 0 and 3."""
    names = comparison.tested.instructions(model.program)
    generator = Generator(model.program, names, comparison.tested.scope)
    source = Random(1)
    found = []
    for form in generator.forms:
        for base in generator.scope.bases:
            cases = (generator.of_form(source, form, base) for _ in range(CASES_PER_FORM))
            found += [d for d in map(comparison.run, cases) if d is not None]
    assert not [describe(d, model, ("reference", "unicorn")) for d in found]
    assert comparison.tally.executed > 5 * comparison.tally.not_modelled
    assert sum(comparison.tally.known.values()) < comparison.tally.executed / 8


def test_instructions_are_chosen_by_what_they_use(model: Model, comparison: Comparison) -> None:
    names = set(comparison.tested.instructions(model.program))
    assert {"ADD", "CALL", "MOVS", "DIV", "PUSHFQ", "CMPXCHG16B", "UD2"} <= names
    assert names.isdisjoint({"CPUID", "RDTSC", "MOV_TO_CR3", "SYSCALL", "IRETQ", "XSAVE", "WRMSR", "IN"})


def test_a_known_difference_is_counted_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "fuzz",
        "--engine",
        "reference,unicorn",
        "--cases",
        "200",
        "--seed",
        "1",
        "--instruction",
        "INT1",
    ]
    assert main([*command, "--corpus", str(tmp_path)]) == 0
    assert "int1" in capsys.readouterr().out


def test_replay_names_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(DIRECTORY / "unicorn" / "ret-signed.json")]) == 0
    assert "known as ret-signed (unicorn)" in capsys.readouterr().out


def test_without_unicorn_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    assert main(["fuzz", "--engine", "unicorn", "--cases", "1"]) == 2
    assert capsys.readouterr().err == "nonroot: fuzz needs the package unicorn: pip install unicorn\n"
