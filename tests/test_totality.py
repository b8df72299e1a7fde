"""Totality: exits that no handler is for are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import z3

import grammar
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from checks.totality.family import TotalityFamily
from grammar import ir

SPEC = Path(grammar.__file__).parents[1] / "spec"

# What a hypervisor may get wrong: file, text, wrong text, the function that then exits, the reason.
FAULTS = [
    # A control that is set, for whose exits nobody wrote a handler.
    ("guests", "HLT_EXITING: true,", "HLT_EXITING: true, INTERRUPT_WINDOW_EXITING: true,", "cycle", "INTERRUPT_WINDOW"),
    # Handlers that are missing.
    ("handlers", "handler EPT_MISCONFIGURATION\n  stop_guest()", "", "ept_find_leaf", "EPT_MISCONFIGURATION"),
    ("handlers", "handler TRIPLE_FAULT\n  stop_guest()", "", "shut_down", "TRIPLE_FAULT"),
    ("handlers", "handler INVALID_GUEST_STATE\n  stop_guest()", "", "vm_entry", "INVALID_GUEST_STATE"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ir.Program:
    """The specification with all of these faults."""
    folder = tmp_path_factory.mktemp("broken") / "spec"
    shutil.copytree(SPEC, folder)
    for file, text, wrong, *_ in FAULTS:
        path = folder / "vmm" / f"{file}.isa"
        whole = path.read_text()
        assert whole.count(text) == 1, text
        path.write_text(whole.replace(text, wrong))
    return grammar.load(folder)


@pytest.fixture(scope="module")
def family() -> TotalityFamily:
    return TotalityFamily()


def prove(family: TotalityFamily, program: ir.Program, goal: str) -> Result:
    outline = next(o for o in family.outlines(program) if goal in o.ids)
    group = family.build(program, outline.group, z3.Context(), frozenset([goal]))
    return GroupRunner(group, Limits()).prove(group.goals[0])


@pytest.mark.parametrize(("function", "reason"), [(function, reason) for *_, function, reason in FAULTS])
def test_an_exit_without_a_handler_is_refuted_and_named(
    family: TotalityFamily, broken: ir.Program, function: str, reason: str
) -> None:
    result = prove(family, broken, f"totality.exits.{function}")
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert reason in {row[0] for row in result.counterexample.rows}


def test_a_function_without_a_fault_is_proved_beside_them(family: TotalityFamily, broken: ir.Program) -> None:
    assert prove(family, broken, "totality.exits.deliver_event").status is Status.PROVED
