"""`nonroot list` and `nonroot show`."""

from __future__ import annotations

import pytest

import grammar
from checks.cli import main
from checks.commands.show import exit_reasons

PROGRAM = grammar.load()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_every_instruction_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    words = set(capsys.readouterr().out.split())
    assert PROGRAM.instructions.keys() <= words


@pytest.mark.parametrize("what", ["handlers", "steps", "policies"])
def test_other_tables(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert set(getattr(PROGRAM, what)) <= set(capsys.readouterr().out.split())


def test_an_instruction_is_shown_as_specified_and_as_generated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "clts"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "instruction CLTS",
        "encoding  0F 06",
        "def execute_CLTS(m) -> None:",
        "raise_GP(m, 0)",
        "CR_ACCESS",
    ):
        assert part in shown


def test_all_widths_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ADD"]) == 0
    assert "execute_ADD_8(" not in capsys.readouterr().out
    assert main(["show", "ADD", "--all-widths"]) == 0
    assert "execute_ADD_8(" in capsys.readouterr().out


def test_an_unknown_instruction_gets_suggestions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "MOV_CR3"]) == 2
    assert "MOV_TO_CR3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("instruction", "reasons"),
    [  # SDM 3C 26.1.2, 26.1.3; IN reads the permission map in the TSS
        ("CPUID", {"CPUID"}),
        ("HLT", {"HLT"}),
        ("RDMSR", {"RDMSR"}),
        ("INVLPG", {"INVLPG"}),
        ("IN", {"IO_INSTRUCTION", "APIC_ACCESS", "EPT_VIOLATION", "EPT_MISCONFIGURATION"}),
        ("CLTS", {"CR_ACCESS"}),
        ("CDQE", set()),
    ],
)
def test_exit_reasons(instruction: str, reasons: set[str]) -> None:
    assert set(exit_reasons(PROGRAM, PROGRAM.instructions[instruction])) == reasons
