"""Host state: what keeps a guest fit to be entered is refuted where it is wrong, and the reference shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3
from broken_specification import refuted_case, with_faults

from checks.extract import extract
from checks.families import families
from checks.host_state.replay import replay
from checks.solve import GroupRunner, Limits
from checks.theorem import Family, Result
from grammar import ir
from refmodel.model import Model, build

# What a VMM or a processor may get wrong: file, text, wrong text, the theorem that notices.
# The first are of start_vm: with them there is no guest that keeps the policy, so that nothing else can be shown.
STARTS = [
    # What start_vm builds: a selector of the host that VM entry asks for, a control that the policy asks for.
    ("vmm/guests", "  HOST_TR_SELECTOR := 0x18\n", "", "start_vm.host_rules.code_and_task"),
    ("vmm/guests", " HLT_EXITING: true,", "", "start_vm.policy.hlt_exits"),
]
FAULTS = [
    # Handlers: CR0.PE cleared, EFER.LME cleared, an error code for #UD, a RIP beyond 32 bits.
    (
        "vmm/handlers",
        "not value.PG or not value.PE",
        "not value.PG",
        "handlers.CR_ACCESS.guest_register_rules.paging",
    ),
    (
        "vmm/msrs",
        " and (value as Efer).LME == GUEST_IA32_EFER.LME",
        "",
        "handlers.WRMSR.guest_register_rules.efer",
    ),
    (
        "vmm/inject",
        "HAS_ERROR_CODE: has_error,",
        "HAS_ERROR_CODE: true,",
        "handlers.INVEPT.control_rules.event_error",
    ),
    (
        "vmm/inject",
        "GUEST_RIP := if GUEST_CS_ACCESS_RIGHTS.L then following else zero_extend(following[31..0], 64)",
        "GUEST_RIP := following",
        "handlers.WBINVD.guest_activity_rules.rip",
    ),
    # A policy that a handler breaks: CR4 shows bits that a guest does not have.
    (
        "vmm/handlers",
        "(value & ~GUEST_CR4_BITS) as bits(64) != 0 or not value.PAE",
        "not value.PAE",
        "handlers.CR_ACCESS.policy.cr4_shadow_is_possible",
    ),
    # A VM exit that forgets what CR0 has besides what it switches.
    (
        "vmx/vm_exit",
        "CR0 := kept | (CR0 & ~CR0_NOT_SWITCHED)",
        "CR0 := HOST_CR0 & 1",
        "exit.policy.cr0_is_valid",
    ),
    # A step that gives a guest that runs another root.
    (
        "vmm/ept_tables",
        "  require   VM_STATE[vm] == ABSENT\n",
        "",
        "steps.create_vm.policy.ept_is_the_guests_own",
    ),
    # An instruction that loads bits which VM entry does not accept.
    (
        "instructions/control_registers",
        "is_valid_cr3(value) else",
        "true else",
        "instructions.MOV_TO_CR3/r64",
    ),
    # The blocking by STI outlasts CLI; an event is delivered to an address that is not canonical.
    (
        "cpu/cycle",
        "blocking.BLOCKING_BY_STI and RFLAGS.IF",
        "blocking.BLOCKING_BY_STI",
        "cycle.cycle.guest_activity_rules.blocking_by_sti",
    ),
    (
        "cpu/interrupt_delivery",
        "  check is_canonical(handler) else",
        "  check true else",
        "delivery.deliver_event.guest_activity_rules.rip",
    ),
    # Where the delivery begins that is left open, on one of the ways through the function.
    (
        "vmx/vm_entry",
        "BLOCKING_BY_NMI: INTERRUPTIBILITY.BLOCKING_BY_NMI or injected_type() == NMI }",
        "BLOCKING_BY_STI: true, BLOCKING_BY_NMI: INTERRUPTIBILITY.BLOCKING_BY_NMI or injected_type() == NMI }",
        "cycle.inject_event.guest_activity_rules.blocking_by_sti",
    ),
]


# Faults about registers: file, text, wrong text, the theorem that notices, what it says.
REGISTERS = [
    # A register that the VMM forgets to switch, one of which it keeps one value for all guests.
    (
        "vmm/schedule",
        "  MSR[IA32_TSC_AUX]        <-> SAVED_MSR[CURRENT_VM, IA32_TSC_AUX]\n",
        "",
        "registers.MSR.class",
        "MSR[3221225731] is not in exactly one class",
    ),
    (
        "vmm/schedule",
        "<-> SAVED_MXCSR[CURRENT_VM]",
        "<-> SAVED_MXCSR[VMM]",
        "registers.MXCSR.entry",
        "sees what is not its own",
    ),
    (
        "vmm/schedule",
        "<-> SAVED_CR2[CURRENT_VM]",
        "<-> SAVED_CR2[VMM]",
        "registers.CR2.return",
        "sees what it did not leave",
    ),
    # A register that a new guest finds as it was.
    (
        "vmm/guests",
        "  X87_STATE := INITIAL_X87\n",
        "",
        "registers.X87_STATE.start",
        "sees what was there before it",
    ),
    # A field that VM entry does not load; a register that the VMM switches, and VM entry loads too.
    (
        "vmx/vm_exit",
        "  IDTR_LIMIT             <-> GUEST_IDTR_LIMIT\n",
        "",
        "registers.IDTR_LIMIT.entry",
        "sees what is not its own",
    ),
    (
        "vmx/vm_entry",
        "  NEXT_RIP := RIP  //",
        "  DR6 := 0\n  NEXT_RIP := RIP  //",
        "registers.DR6.class",
        "and the VMM",
    ),
    # A register that somebody adds, without a thought of whose it is.
    (
        "cpu/registers",
        "register EFER :",
        "register NEW : bits(64)\nregister EFER :",
        "registers.NEW.class",
        "NEW is not in",
    ),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ir.Program:
    folder = tmp_path_factory.mktemp("broken") / "spec"
    return with_faults(folder, (one[:3] for one in (*FAULTS, *REGISTERS)))


@pytest.fixture(scope="module")
def broken_model(broken: ir.Program) -> Model:
    return build(broken)


@pytest.fixture(scope="module")
def proving() -> dict[str, Family]:
    return families()


def prove(proving: dict[str, Family], program: ir.Program, goal: str) -> Result:
    family = proving["trap" if goal.startswith("host_state.instructions.") else "host_state"]
    outline = next(o for o in family.outlines(program) if goal in o.ids)
    made_from = extract(program, outline.roots)
    group = family.build(made_from, outline.group, z3.Context(), frozenset([goal]))
    return GroupRunner(group, Limits()).prove(next(g for g in group.goals if g.id == goal))


@pytest.mark.parametrize("goal", [goal for *_, goal in FAULTS])
def test_a_broken_promise_is_refuted_and_the_reference_shows_it(
    proving: dict[str, Family],
    broken: ir.Program,
    broken_model: Model,
    model: Model,
    goal: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = prove(proving, broken, f"host_state.{goal}")
    case = refuted_case(result)
    assert replay(case, broken_model) == 0
    assert "CONFIRMED" in capsys.readouterr().out
    assert replay(case, model) == 1


def test_what_start_vm_builds_is_refuted(
    proving: dict[str, Family], model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = with_faults(tmp_path / "spec", (one[:3] for one in STARTS))
    broken_model = build(broken)
    for *_, goal in STARTS:
        result = prove(proving, broken, f"host_state.{goal}")
        case = refuted_case(result)
        assert replay(case, broken_model) == 0
        assert replay(case, model) == 1
        assert "CONFIRMED" in capsys.readouterr().out


@pytest.mark.parametrize(("goal", "told"), [(goal, told) for *_, goal, told in REGISTERS])
def test_a_register_that_is_not_the_guests_own_is_refuted_and_the_reference_shows_it(
    proving: dict[str, Family], broken: ir.Program, broken_model: Model, model: Model, goal: str, told: str
) -> None:
    result = prove(proving, broken, f"host_state.{goal}")
    case = refuted_case(result)
    assert result.counterexample is not None
    assert told in result.counterexample.summary
    assert replay(case, broken_model) == 0
    if case.instruction.split("[")[0] in model.program.state:  # not the register that was added
        assert replay(case, model) == 1
