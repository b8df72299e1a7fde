"""Faithful emulation: faults in the VMM's handlers are refuted, and the counterexamples replay on the reference."""

from __future__ import annotations

import pytest
import z3
from broken_specification import refuted_case, with_faults

from checks.emulation.family import EmulationFamily
from checks.emulation.replay import replay
from checks.solve import GroupRunner, Limits
from checks.theorem import Result
from grammar import ir
from refmodel.model import Model, build

VECTORING, INJECTING = "  if IDT_VECTORING_INFORMATION.VALID", "ENTRY_INTERRUPTION_INFORMATION"
# What a hypervisor may get wrong: file, text, wrong text, the theorem that notices, what differs.
FAULTS = [
    # A guest that exits in the middle of a delivery loses the event, if it is not stopped.
    ("vmm/inject", f"{VECTORING}\n    stop_guest()\n  else\n    {INJECTING} := InterruptionInformation",
     f"{VECTORING} and EXIT_REASON != 48\n    stop_guest()\n  else\n    {INJECTING} := InterruptionInformation",
     "deliveries", "is stopped"),
    # With interrupts off HLT waits for ever; a guest whose exit is taken for another goes on.
    ("instructions/idle", "exit      HLT when", "exit      INVD when", "HLT", "waits for ever"),
    # The exception that the guest gets, and the RIP that it goes on with.
    ("vmm/handlers", "handler RDPMC\n  inject_gp()", "handler RDPMC\n  inject_ud()", "RDPMC", "vector 6"),
    ("vmm/handlers", "handler INVD\n  skip_instruction()", "handler INVD\n  yield()", "INVD", "RIP"),
    # MOV to CR8 checks 60 reserved bits.
    ("vmm/handlers", "if value[63..4] != 0", "if value[63..5] != 0", "MOV_TO_CR8/r64", "has_error"),
    # IN with a 16-bit operand leaves the upper part of RAX alone.
    ("vmm/handlers", "old[63..16] ++ value[15..0]", "zero_extend(value[15..0], 64)", "IN/ax,dx", "GPR[0]"),
    # CPUID zeroes the upper halves of four registers.
    ("vmm/handlers", "GPR[RBX] := zero_extend(result[63..32], 64)", "GPR[RBX] := result[95..32]", "CPUID", "GPR[3]"),
    # LMA follows paging, whatever WRMSR says.
    ("vmm/msrs", "(value as Efer) with { LMA: GUEST_IA32_EFER.LMA }", "value as Efer", "WRMSR", "is stopped"),
    # An exception that exits goes back to the guest with its error code.
    ("vmm/inject", "    ENTRY_EXCEPTION_ERROR_CODE := EXIT_INTERRUPTION_ERROR_CODE\n", "", "exceptions", "error"),
    # A guest that single-steps over WBINVD gets its trap.
    ("vmm/inject", "  if GUEST_RFLAGS.TF\n", "  if GUEST_RFLAGS.TF and EXIT_REASON != 54\n", "WBINVD", "qualification"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ir.Program:
    """The specification with all of these faults, each in another place."""
    folder = tmp_path_factory.mktemp("broken") / "spec"
    return with_faults(folder, ((file, text, wrong) for file, text, wrong, *_ in FAULTS))


@pytest.fixture(scope="module")
def broken_model(broken: ir.Program) -> Model:
    return build(broken)


def prove(program: ir.Program, goal: str) -> Result:
    family = EmulationFamily()
    outline = next(o for o in family.outlines(program) if goal in o.ids)
    group = family.build(program, outline.group, z3.Context(), frozenset([goal]))
    return GroupRunner(group, Limits()).prove(group.goals[0])


@pytest.mark.parametrize(("goal", "difference"), [(goal, different) for *_, goal, different in FAULTS])
def test_a_wrong_handler_is_refuted_and_the_reference_shows_it(
    broken: ir.Program, broken_model: Model, goal: str, difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = prove(broken, f"emulation.{goal}")
    case = refuted_case(result)
    assert replay(case, broken_model) == 0
    told = capsys.readouterr().out
    assert "CONFIRMED" in told
    assert difference in told


@pytest.mark.parametrize("goal", ["INVD", "exceptions"])
def test_a_right_handler_replays_as_right(
    broken: ir.Program, model: Model, goal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = prove(broken, f"emulation.{goal}")
    assert replay(refuted_case(result), model) == 1
    assert "keeps the theorem" in capsys.readouterr().out
