"""What is sensitive and unprivileged without VMX: Robin and Irvine's list comes out, each difference explained."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest

import grammar
from checks.vmx_off.rows import OffRow, off_rows

PROGRAM = grammar.load()
LIST = tomllib.loads((Path(__file__).parent / "data" / "robin_irvine.toml").read_text(encoding="utf-8"))
CLOSED = {name for names in LIST["privileged_if_closed"].values() for name in names}


@cache
def row(name: str) -> OffRow:
    [found] = off_rows(PROGRAM, [name])
    return found


@pytest.mark.parametrize("mnemonic", LIST["sensitive_registers"])
def test_sensitive_register_instructions_are_found(mnemonic: str) -> None:
    """The other part of the list, and that nothing else is found, is what `nonroot matrix --vmx-off` shows."""
    for name in LIST["sensitive_registers"][mnemonic]:
        assert row(name).when_open
        assert bool(row(name).when_closed) == (name not in CLOSED)


@pytest.mark.parametrize(
    "name", ["MOV_FROM_SEGMENT", "PUSH_CS", "PUSH_FS", "POP_FS", "STR", "LAR", "CPUID", "RDTSC"]
)
def test_others_are_found(name: str) -> None:
    theirs = {one for names in LIST["protection_system"].values() for one in names}
    assert name in theirs | set(LIST["only_ours"])
    assert row(name).when_open
    assert bool(row(name).when_closed) == (name not in CLOSED)


@pytest.mark.parametrize("name", [*LIST["only_theirs"], "HLT", "MOV_TO_CR0", "CLI", "LAHF", "EMMS", "OUT"])
def test_what_traps_or_commutes_is_not_sensitive(name: str) -> None:
    """INT n, HLT, MOV to CR0, CLI and OUT trap at CPL 3; LAHF does the same in both machines."""
    assert not row(name).is_sensitive


def test_popf_loses_the_interrupt_flag() -> None:
    """No secret leaks: the flag is not set where it would be at CPL 0, which the map alone shows."""
    assert row("POPFQ").when_open == ("RFLAGS",)
