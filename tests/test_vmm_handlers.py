"""The VMM's handlers one by one, also of exits that its own controls do not cause.  SDM 2A to 2D, 3C 28.2"""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import hypercall, session_of

from refmodel.model import Model
from refmodel.runtime import Abort

LIVE = 1
GP_INJECTED = 1 << 31 | 1 << 11 | 3 << 8 | 13
IA32_APIC_BASE, IA32_EFER = 0x1B, 0xC0000080
LME, LMA = 1 << 8, 1 << 10
PE, MP, EM, TS = 1, 2, 4, 8
PAUSE_EXITING = 1 << 30
LOOP = "here: jmp here"


@pytest.fixture
def m(model: Model) -> Any:
    """A machine with two guests, the first of which is current."""
    machine = session_of(model, "", "")[0].machine
    model.functions["switch_to"](machine, 1)
    return machine


def registers_after(model: Model, text: str, **fields: int) -> Any:
    """The machine when a guest with these VMCS fields has run a text, and spins."""
    session, _ = session_of(model, f"{text}\n{LOOP}")
    for name, value in fields.items():
        setattr(session.machine.vmcs, name, getattr(session.machine.vmcs, name) | value)
    session.run(60)
    return session.machine


# --- who runs next ---


@pytest.mark.parametrize("what", ["timer", "interrupt", "nmi"])
def test_a_guest_that_is_interrupted_makes_way(model: Model, what: str) -> None:
    session, written = session_of(model, LOOP, "mov al, 0x79\nout 0xe9, al")
    m, f = session.machine, model.functions
    f["switch_to"](m, 1)
    session.run(5)
    assert (m.IN_NON_ROOT, m.CURRENT_VM) == (True, 1)
    if what == "timer":
        m.PREEMPTION_TIMER_VALUE = 0
    else:
        with pytest.raises(Abort) as arrival:
            f["external_interrupt"](m, 0x41) if what == "interrupt" else f["non_maskable_interrupt"](m)
        f["vm_exit"](m, arrival.value.value)
        f["after_exit"](m)
        f[f"handle_{'EXTERNAL_INTERRUPT' if what == 'interrupt' else 'EXCEPTION_OR_NMI'}"](m)
    session.run(20)
    assert written[2] == "y"


@pytest.mark.parametrize("name", ["INVALID_GUEST_STATE", "MSR_LOADING", "MONITOR_TRAP_FLAG", "OTHER"])
def test_exits_that_no_guest_should_cause_stop_it_alone(model: Model, m: Any, name: str) -> None:
    model.functions[f"handle_{name}"](m)
    assert (m.VM_STATE[1] != LIVE, m.VM_STATE[2]) == (True, LIVE)


def test_a_guest_that_was_ended_elsewhere_runs_until_it_exits(model: Model) -> None:
    """Another processor has ended it: the machine goes on, though no guest is left that could be next."""
    session, _ = session_of(model, LOOP)
    session.run(5)
    m = session.machine
    assert model.functions["kill"](m, 1)
    assert session.step()
    m.PREEMPTION_TIMER_VALUE = 0
    assert not session.step()


def test_whoever_runs_the_machine_is_told_the_basic_exit_reason(model: Model, m: Any) -> None:
    """SDM 3C table 25-14: it has 16 bits, of which more than today's reasons are free."""
    told: list[tuple[int, int]] = []
    m.listeners["guest_stopped"] = lambda *event: told.append(event)
    m.vmcs.EXIT_REASON = 1 << 31 | 0x8021
    model.functions["stop_guest"](m)
    assert told == [(1, 0x8021)]


# --- exceptions that exit ---


@pytest.mark.parametrize("kind", range(8))
def test_only_hardware_exceptions_have_causes(model: Model, m: Any, kind: int) -> None:
    """SDM 3A 6.15, 3C table 25-17: a page fault loads CR2, a debug exception DR6; their type is 3."""
    for vector in (1, 14, 0x81, 0x8E):
        m.CR2, m.DR6 = 0, 0
        m.vmcs.EXIT_INTERRUPTION_INFORMATION = 1 << 31 | kind << 8 | vector
        m.vmcs.EXIT_QUALIFICATION = 0x4001
        model.functions["reflect"](m)
        assert (0x4001 if (kind, vector) == (3, 14) else 0) == m.CR2
        assert (0x4001 if (kind, vector) == (3, 1) else 0) == m.DR6


# --- control registers ---


@pytest.mark.parametrize("mask", [0, MP | EM | TS])
@pytest.mark.parametrize("old", [PE, PE | MP | TS, PE | MP | EM | TS])
def test_clts(model: Model, mask: int, old: int) -> None:
    """SDM 2A "CLTS", whether it exits or not."""
    text = f"mov rax, cr0\nand eax, 0xfffffff0\nor eax, {old}\nmov cr0, rax\nclts\nmov rbx, cr0"
    m = registers_after(model, text, CR0_GUEST_HOST_MASK=mask)
    assert m.GPR[3] & 0xF == old & ~TS


@pytest.mark.parametrize("mask", [0, MP | EM | TS])
@pytest.mark.parametrize("old", [PE, PE | MP, PE | MP | EM | TS])
@pytest.mark.parametrize("loaded", [0, PE, MP, EM, TS, 0xFF0F])
def test_lmsw(model: Model, mask: int, old: int, loaded: int) -> None:
    """SDM 2A "LMSW": loads PE, MP, EM and TS, but does not clear PE; whether it exits or not."""
    text = f"mov rax, cr0\nand eax, 0xfffffff0\nor eax, {old}\nmov cr0, rax\nmov eax, {loaded}\nlmsw ax\nmov rbx, cr0"
    m = registers_after(model, text, CR0_GUEST_HOST_MASK=mask)
    assert m.GPR[3] & 0xF == loaded & 0xF | PE


@pytest.mark.parametrize(
    ("value", "accepted"), [(0x20, True), (0x6A0, True), (0x680, False), (0x2020, False), (1 << 63, False)]
)
def test_mov_to_cr4(model: Model, m: Any, value: int, accepted: bool) -> None:
    """With PAE, and with bits only that CPUID shows; the guest sees what it wrote, and VMXE stays set."""
    model.functions["write_guest_cr4"](m, value)
    injected = m.vmcs.ENTRY_INTERRUPTION_INFORMATION
    assert injected == (0 if accepted else GP_INJECTED)
    assert (value if accepted else 0x20) == m.vmcs.CR4_READ_SHADOW
    assert (value | 0x2000 if accepted else 0x2020) == m.vmcs.GUEST_CR4


# --- instructions that could exit ---


def test_pause(model: Model) -> None:
    m = registers_after(model, "pause\nmov rbx, 7", PRIMARY_CONTROLS=PAUSE_EXITING)
    assert m.GPR[3] == 7


def test_hypercalls_write_eight_bits(model: Model) -> None:
    session, written = session_of(model, hypercall(0, 0xC3))
    session.run(20)
    assert written[1] == "\xc3"


def test_ports_side_by_side(model: Model, m: Any) -> None:
    """The line-status register of COM1 is port 3FDh; the transmitter is empty.  Nothing answers at the others."""
    for first in range(0x3F8, 0x400):
        values = [0x60 if first + i == 0x3FD else 0xFF for i in range(4)]
        assert model.functions["visible_ports"](m, first) == int.from_bytes(bytes(values), "little")


# --- MSRs ---


def test_the_apic_base(model: Model) -> None:
    """SDM 3A 11.4.4: the processor that was started first, the APIC enabled, at its usual place."""
    m = registers_after(model, f"mov ecx, {IA32_APIC_BASE}\nrdmsr\nmov ebx, eax")
    assert (m.GPR[3], m.GPR[2]) == (0xFEE00000 | 1 << 8 | 1 << 11, 0)


@pytest.mark.parametrize("lma", [0, LMA])
def test_lma_is_not_written(model: Model, m: Any, lma: int) -> None:
    """SDM 2D "WRMSR", 3A 2.2.1"""
    m.vmcs.GUEST_IA32_EFER = LME | lma
    model.functions["write_guest_msr"](m, IA32_EFER, LME | LMA ^ lma)
    assert LME | lma == m.vmcs.GUEST_IA32_EFER


@pytest.mark.parametrize("lme", [0, LME])
def test_lme_stays_while_paging_is_on(model: Model, m: Any, lme: int) -> None:
    """SDM 3A 2.2.1; it is the guest's that counts, not the one of the processor that has come back from it."""
    m.vmcs.GUEST_IA32_EFER = lme
    for efer in (0, LME):
        m.EFER = efer
        assert [model.functions["is_valid_msr_value"](m, IA32_EFER, new) for new in (lme, lme ^ LME)] == [
            True,
            False,
        ]


# --- what a guest begins with ---


def test_a_guests_clock_begins_at_zero(model: Model, m: Any) -> None:
    m.TSC = 123456
    model.functions["set_controls"](m, 1)
    assert (m.TSC + m.vmcs.TSC_OFFSET) % (1 << 64) == 0


def test_a_guest_begins_in_64_bit_mode_with_system_calls(model: Model) -> None:
    m = registers_after(model, f"mov ebx, cs\nmov esi, ss\nmov ecx, {IA32_EFER}\nrdmsr")
    assert (m.GPR[3], m.GPR[6]) == (0x08, 0x10)
    assert m.GPR[0] == 1 | LME | LMA | 1 << 11  # SCE, NXE
