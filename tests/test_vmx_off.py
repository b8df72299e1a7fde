"""What is sensitive and unprivileged without VMX: Robin and Irvine's list comes out, each difference explained."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import grammar
from checks.cli import main
from checks.vmx_off.compared import Theirs, broken
from checks.vmx_off.facts import OffRow, off_rows
from checks.vmx_off.rows import markdown, words
from grammar import ir

PROGRAM = grammar.load()
THEIRS = Theirs.load()
DOCUMENT = Path(__file__).parent.parent / "docs" / "vmx-off.md"


@cache
def row(name: str) -> OffRow:
    [found] = off_rows(PROGRAM, [name])
    return found


@pytest.mark.parametrize(
    "name", ["SGDT", "SMSW", "PUSHFQ", "POPFQ", "STR", "MOV_FROM_SEGMENT", "PUSH_CS", "PUSH_FS", "LAR"]
)
def test_their_instructions_are_found(name: str) -> None:
    """A sample; `nonroot matrix --vmx-off --check docs/vmx-off.md` looks at all."""
    assert name in THEIRS.names
    assert row(name).is_sensitive
    assert broken(THEIRS, {name: row(name)}) == []


@pytest.mark.parametrize("name", ["INT", "CPUID", "RDTSC", "RDPMC"])
def test_differences_have_reasons_that_hold(name: str) -> None:
    assert THEIRS.reason(name)
    assert broken(THEIRS, {name: row(name)}) == []


@pytest.mark.parametrize(
    "name", ["HLT", "MOV_TO_CR0", "CLI", "LAHF", "EMMS", "OUT", "XSAVE", "XRSTOR", "XGETBV"]
)
def test_what_traps_or_commutes_is_not_sensitive(name: str) -> None:
    """HLT, MOV to CR0, CLI and OUT trap at CPL 3; LAHF and XSAVE do the same in both machines."""
    assert not row(name).is_sensitive


def test_popf_loses_the_interrupt_flag() -> None:
    """No secret leaks: the flag is not set where it would be at CPL 0, which the map alone shows."""
    assert row("POPFQ").when_open == ("RFLAGS",)


def test_what_one_bit_makes_privileged() -> None:
    """UMIP stops SGDT at CPL 3, TSD and PCE do not.  SDM 3A 2.5"""
    assert row("SGDT").privileged_by == ("UMIP",)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("POPFQ", {"when_open": (), "when_closed": ()}, "POPFQ is not sensitive"),
        ("HLT", {"when_open": ("GPR",)}, "HLT is sensitive"),
        ("CPUID", {"when_open": ("GPR", "LINEAR")}, "CPUID differs in GPR, LINEAR"),
        ("SGDT", {"privileged_by": ()}, "SGDT is made privileged by nothing"),
        ("PUSH_CS", {"is_removed": False}, "PUSH_CS is an instruction of 64-bit mode"),
        ("INT", {"always_traps": False}, "INT does not always trap"),
    ],
)
def test_a_reason_that_does_not_hold_is_reported(name: str, wrong: dict[str, object], said: str) -> None:
    changed = replace(row(name), **wrong)  # type: ignore[arg-type]
    assert any(problem.startswith(said) for problem in broken(THEIRS, {name: changed}))


def test_a_privilege_check_that_is_lost_is_found() -> None:
    """CLI without its check is as sensitive as POPF: the VMM never hears of it."""
    cli = PROGRAM.instructions["CLI"]
    bodies = tuple(replace(b, body=tuple(s for s in b.body if not _is_check(s))) for b in cli.bodies)
    faulty = replace(PROGRAM, instructions={**PROGRAM.instructions, "CLI": replace(cli, bodies=bodies)})
    [found] = off_rows(faulty, ["CLI"])
    assert found.is_sensitive
    assert broken(THEIRS, {"CLI": found}) == ["CLI is sensitive, and nothing says why the lists differ"]


def _is_check(statement: ir.Stmt) -> bool:
    return isinstance(statement, ir.If) and statement.clause == "check"


def test_the_document_has_what_is_computed() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    for name in ("SGDT", "POPFQ", "PUSH_CS"):
        assert f"| {' | '.join(words(row(name)))} |" in lines
    assert markdown([]).splitlines()[0] == lines[0]


def test_the_command_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--vmx-off", "-j", "1", "RDPMC", "--json", str(tmp_path / "off.json")]) == 0
    assert "PCE" in capsys.readouterr().out
