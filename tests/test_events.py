"""Exceptions and interrupts: delivery through the IDT, error codes, double and triple faults, IRET.  SDM 3A 6"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from refmodel.model import Model
from refmodel.runtime import Abort

RSP = 4
CS, SS, DS, TR = 1, 2, 3, 7
PAGE_TABLES, GDT, IDT, TSS, CODE, HANDLERS, STACK, STACK0, IST1 = (
    0x1000 * n for n in (1, 4, 5, 6, 8, 9, 0xB, 0xD, 0xF)
)
KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE, CONFORMING, ABSENT = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30
DESCRIPTORS = {
    KERNEL_CODE: 0x00AF9B000000FFFF,
    KERNEL_DATA: 0x00CF93000000FFFF,
    USER_DATA & ~3: 0x00CFF3000000FFFF,
    USER_CODE & ~3: 0x00AFFB000000FFFF,
    CONFORMING: 0x00AF9F000000FFFF,
    ABSENT: 0x00AF1B000000FFFF,
}
INTERRUPT, TRAP = 14, 15
IF, TF, NT, RF = 1 << 9, 1 << 8, 1 << 14, 1 << 16
DF, TS, NP, GP, PF = 8, 10, 11, 13, 14
UD2, INT_80, INT3, IRETQ, CLI, STI, NOP = "0f 0b", "cd 80", "cc", "48 cf", "fa", "fb", "90"
MOV_SS_AX, CPUID, INT1, SYSCALL, SYSRETQ = "8e d0", "0f a2", "f1", "0f 05", "48 0f 07"
ENTRY = 0x7000
SHUTDOWN = 2
BLOCKING_BY_MOV_SS = 2


@pytest.fixture
def m(model: Model) -> Any:
    """A machine at CPL 0 with flat memory, a GDT, a TSS and handlers for all vectors."""
    machine = model.machine(1 << 20)
    machine.CR0, machine.CR4, machine.EFER, machine.CR3 = 0x80010031, 0x20, 0xD00, PAGE_TABLES
    machine.PHYSICAL.write_64(PAGE_TABLES, PAGE_TABLES + 0x1000 | 7)
    machine.PHYSICAL.write_64(PAGE_TABLES + 0x1000, PAGE_TABLES + 0x2000 | 7)
    machine.PHYSICAL.write_64(PAGE_TABLES + 0x2000, 0xE7)  # 2 MiB; the next linear address is not mapped
    for selector, descriptor in DESCRIPTORS.items():
        machine.PHYSICAL.write_64(GDT + selector, descriptor)
    for vector in range(256):
        set_gate(machine, vector)
    machine.PHYSICAL.write_64(TSS + 4, STACK0)
    machine.PHYSICAL.write_64(TSS + 0x24, IST1)
    machine.GDTR_BASE, machine.GDTR_LIMIT = GDT, 0x37
    machine.IDTR_BASE, machine.IDTR_LIMIT = IDT, 0xFFF
    machine.SEGMENT_SELECTOR[TR], machine.SEGMENT_BASE[TR], machine.SEGMENT_LIMIT[TR] = 0x40, TSS, 0x67
    enter(machine, 0)
    return machine


def enter(m: Any, cpl: int) -> None:
    """Puts the machine at a privilege level."""
    code, data = (USER_CODE, USER_DATA) if cpl == 3 else (KERNEL_CODE, KERNEL_DATA)
    m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS], m.SEGMENT_SELECTOR[DS] = code, data, data
    m.SEGMENT_RIGHTS[CS], m.SEGMENT_RIGHTS[SS], m.SEGMENT_RIGHTS[DS] = (
        0xA09B | cpl << 5,
        0xC093 | cpl << 5,
        0xC093 | cpl << 5,
    )
    m.GPR[RSP], m.RIP, m.RFLAGS = STACK, CODE, 2 | IF


def set_gate(
    m: Any,
    vector: int,
    *,
    kind: int = INTERRUPT,
    dpl: int = 0,
    selector: int = KERNEL_CODE,
    ist: int = 0,
    p: int = 1,
) -> None:
    handler = HANDLERS + 16 * vector
    low = (
        handler & 0xFFFF
        | selector << 16
        | ist << 32
        | kind << 40
        | dpl << 45
        | p << 47
        | (handler >> 16) << 48
    )
    m.PHYSICAL.write_bytes(IDT + 16 * vector, struct.pack("<QQ", low & (1 << 64) - 1, handler >> 32))


def step(model: Model, m: Any, code: str) -> int:
    """Runs one instruction and what it raises; the vector of the handler that was reached, -1 if none was."""
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex(code))
    model.functions["cycle"](m)
    vector, rest = divmod(m.RIP - HANDLERS, 16)
    return vector if rest == 0 and 0 <= vector < 256 else -1


def frame(m: Any, count: int) -> list[int]:
    return [m.PHYSICAL.read_64(m.GPR[RSP] + 8 * i) for i in range(count)]


@pytest.mark.parametrize("kind", [INTERRUPT, TRAP])
def test_a_software_interrupt_at_the_same_privilege(model: Model, m: Any, kind: int) -> None:
    set_gate(m, 0x80, kind=kind)
    m.GPR[RSP] -= 4  # the frame is aligned to 16 bytes
    m.RFLAGS |= NT
    assert step(model, m, INT_80) == 0x80
    assert frame(m, 5) == [CODE + 2, KERNEL_CODE, 2 | IF | NT, STACK - 4, KERNEL_DATA]
    assert m.GPR[RSP] == STACK - 16 - 40
    assert bool(m.RFLAGS & IF) == (kind == TRAP)
    assert m.RFLAGS & (TF | NT | RF) == 0
    assert m.SEGMENT_SELECTOR[SS] == KERNEL_DATA


def test_a_fault_from_user_mode_switches_stacks(model: Model, m: Any) -> None:
    enter(m, 3)
    assert step(model, m, UD2) == 6
    assert frame(m, 5) == [CODE, USER_CODE, 2 | IF | RF, STACK, USER_DATA]
    assert m.GPR[RSP] == STACK0 - 40
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS]) == (KERNEL_CODE, 0)
    assert m.SEGMENT_RIGHTS[SS] >> 5 & 3 == 0
    assert m.SEGMENT_RIGHTS[SS] >> 16 & 1 == 1


def test_the_interrupt_stack_table(model: Model, m: Any) -> None:
    set_gate(m, 6, ist=1)
    assert step(model, m, UD2) == 6
    assert m.GPR[RSP] == IST1 - 40
    assert m.SEGMENT_SELECTOR[SS] == KERNEL_DATA


def test_a_conforming_handler_keeps_the_privilege(model: Model, m: Any) -> None:
    set_gate(m, 0x80, dpl=3, selector=CONFORMING)
    enter(m, 3)
    assert step(model, m, INT_80) == 0x80
    assert m.SEGMENT_SELECTOR[CS] == CONFORMING | 3
    assert m.SEGMENT_SELECTOR[SS] == USER_DATA


@pytest.mark.parametrize(
    ("gate", "cpl", "vector", "error"),
    [
        ({"dpl": 0}, 3, GP, 0x80 * 8 + 2),
        ({"p": 0}, 0, NP, 0x80 * 8 + 2),
        ({"kind": 12}, 0, GP, 0x80 * 8 + 2),
        ({"selector": 0}, 0, GP, 0),
        ({"selector": 0x38}, 0, GP, 0x38),
        ({"selector": KERNEL_DATA}, 0, GP, KERNEL_DATA),
        ({"selector": ABSENT}, 0, NP, ABSENT),
    ],
)
def test_bad_gates(model: Model, m: Any, gate: dict[str, int], cpl: int, vector: int, error: int) -> None:
    set_gate(m, 0x80, **gate)
    enter(m, cpl)
    assert step(model, m, INT_80) == vector
    assert frame(m, 2) == [error, CODE]


def test_the_error_code_says_that_an_exception_was_external(model: Model, m: Any) -> None:
    set_gate(m, 6, p=0)
    assert step(model, m, UD2) == NP
    assert frame(m, 1) == [6 * 8 + 2 + 1]


def test_a_tss_that_is_too_short(model: Model, m: Any) -> None:
    m.SEGMENT_LIMIT[TR] = 10
    set_gate(m, TS, selector=CONFORMING)
    enter(m, 3)
    assert step(model, m, UD2) == TS
    assert frame(m, 1) == [0x41]


def test_page_faults_set_cr2(model: Model, m: Any) -> None:
    m.GPR[0] = 0x200008
    assert step(model, m, "48 89 00") == PF  # mov [rax], rax
    assert m.CR2 == 0x200008
    assert frame(m, 2) == [2, CODE]


@pytest.mark.parametrize("first", [UD2, "cd 0d"])
def test_a_benign_event_never_makes_a_double_fault(model: Model, m: Any, first: str) -> None:
    set_gate(m, 6, p=0)
    set_gate(m, 13, p=0)
    assert step(model, m, first) == NP


def test_double_fault(model: Model, m: Any) -> None:
    set_gate(m, PF, p=0)
    m.GPR[0] = 0x200000
    assert step(model, m, "48 8b 00") == DF  # mov rax, [rax]
    assert frame(m, 2) == [0, CODE]


def test_triple_fault(model: Model, m: Any) -> None:
    m.IDTR_LIMIT = 0
    step(model, m, UD2)
    assert m.ACTIVITY_STATE == SHUTDOWN
    step(model, m, NOP)
    assert m.RIP == CODE


def test_single_step(model: Model, m: Any) -> None:
    m.RFLAGS |= TF
    assert step(model, m, NOP) == 1
    assert frame(m, 3) == [CODE + 1, KERNEL_CODE, 2 | IF | TF]
    assert m.DR6 >> 14 & 1 == 1
    assert m.RFLAGS & TF == 0


def test_a_load_of_the_stack_segment_holds_back_the_single_step_trap(model: Model, m: Any) -> None:
    """Only the first of two in a row does.  SDM 3A 6.8.3"""
    m.RFLAGS |= TF
    m.GPR[0] = KERNEL_DATA
    assert step(model, m, MOV_SS_AX) == -1
    assert m.RIP == CODE + 2
    assert step(model, m, MOV_SS_AX) == 1
    assert frame(m, 1) == [CODE + 4]


@pytest.mark.parametrize(("mask", "vector"), [(TF, -1), (0, 1)], ids=["TF in FMASK", "TF not in FMASK"])
def test_a_system_call_is_followed_by_a_trap_if_tf_is_left(
    model: Model, m: Any, mask: int, vector: int
) -> None:
    """As QEMU and KVM have it; kvm-unit-tests, x86/msr.c."""
    m.RFLAGS |= TF
    m.EFER |= 1
    m.MSR[0xC0000081], m.MSR[0xC0000082], m.MSR[0xC0000084] = KERNEL_CODE << 32, ENTRY, mask
    assert step(model, m, SYSCALL) == vector
    if vector == 1:
        assert frame(m, 1) == [ENTRY]


@pytest.mark.parametrize(("flags", "vector"), [(TF, 1), (0, -1)], ids=["TF in R11", "TF not in R11"])
def test_the_return_of_a_system_call_is_followed_by_a_trap_if_tf_is_loaded(
    model: Model, m: Any, flags: int, vector: int
) -> None:
    m.RFLAGS |= TF ^ flags  # what TF was before does not count
    m.EFER |= 1
    m.GPR[1], m.GPR[11], m.MSR[0xC0000081] = CODE + 0x20, flags | 2, KERNEL_CODE << 48
    assert step(model, m, SYSRETQ) == vector
    if vector == 1:
        assert frame(m, 1) == [CODE + 0x20]


@pytest.mark.parametrize(("code", "pending"), [(CPUID, 1 << 14), (INT1, 0)], ids=["CPUID", "INT1"])
def test_the_held_back_trap_is_pending_at_a_vm_exit_but_one_of_db(
    model: Model, m: Any, code: str, pending: int
) -> None:
    """SDM 3C 25.4.2, 28.3.4"""
    m.RFLAGS |= TF
    m.GPR[0] = KERNEL_DATA
    step(model, m, MOV_SS_AX)
    m.IN_NON_ROOT, m.vmcs.EXCEPTION_BITMAP = 1, 1 << 1
    with pytest.raises(Abort) as event:
        step(model, m, code)
    model.functions["save_guest"](m, event.value.value)
    assert m.vmcs.GUEST_INTERRUPTIBILITY_STATE == BLOCKING_BY_MOV_SS
    saved = m.vmcs.GUEST_PENDING_DEBUG_EXCEPTIONS
    assert saved == pending


def test_an_instruction_breakpoint_comes_before_the_instruction(model: Model, m: Any) -> None:
    m.DR[2], m.DR7 = CODE, 0x410
    assert step(model, m, UD2) == 1
    assert frame(m, 1) == [CODE]
    assert m.DR6 & 0xF == 4
    enter(m, 0)
    m.RFLAGS |= RF
    assert step(model, m, UD2) == 6


def push_return_frame(m: Any, values: tuple[int, ...]) -> None:
    m.GPR[RSP] -= 40
    m.PHYSICAL.write_bytes(m.GPR[RSP], struct.pack("<5Q", *values))


def test_iretq_to_user_mode(model: Model, m: Any) -> None:
    push_return_frame(m, (CODE + 0x100, USER_CODE, 0x3202, STACK - 0x100, USER_DATA))
    step(model, m, IRETQ)
    assert (m.RIP, m.GPR[RSP], m.RFLAGS) == (CODE + 0x100, STACK - 0x100, 0x3202)
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS]) == (USER_CODE, USER_DATA)
    assert m.SEGMENT_RIGHTS[SS] >> 5 & 3 == 3
    assert m.SEGMENT_SELECTOR[DS] == 0  # its DPL was 0


def test_iretq_in_user_mode_cannot_gain_privilege(model: Model, m: Any) -> None:
    enter(m, 3)
    push_return_frame(m, (CODE + 0x100, USER_CODE, 0x3002, STACK, USER_DATA))
    step(model, m, IRETQ)
    assert m.RFLAGS == 2 | IF  # neither IF nor IOPL changed
    enter(m, 3)
    push_return_frame(m, (CODE, KERNEL_CODE, 2, STACK, KERNEL_DATA))
    assert step(model, m, IRETQ) == GP


@pytest.mark.parametrize(
    ("values", "vector", "error"),
    [
        ((1 << 47, KERNEL_CODE, 2, STACK, KERNEL_DATA), GP, 0),
        ((CODE, 0, 2, STACK, KERNEL_DATA), GP, 0),
        ((CODE, KERNEL_DATA, 2, STACK, KERNEL_DATA), GP, KERNEL_DATA),
        ((CODE, USER_CODE & ~3, 2, STACK, KERNEL_DATA), GP, USER_CODE & ~3),
        ((CODE, USER_CODE, 2, STACK, KERNEL_DATA), GP, KERNEL_DATA),
        ((CODE, USER_CODE, 2, STACK, 0), GP, 0),
        ((CODE, ABSENT, 2, STACK, KERNEL_DATA), NP, ABSENT),
        ((CODE, 0x38, 2, STACK, KERNEL_DATA), GP, 0x38),
    ],
)
def test_iretq_to_nowhere(model: Model, m: Any, values: tuple[int, ...], vector: int, error: int) -> None:
    push_return_frame(m, values)
    assert step(model, m, IRETQ) == vector
    assert frame(m, 2) == [error, CODE]


def test_iretq_of_a_nested_task(model: Model, m: Any) -> None:
    m.RFLAGS |= NT
    assert step(model, m, IRETQ) == GP


def test_iretq_accepts_a_null_stack_segment_in_kernel_mode(model: Model, m: Any) -> None:
    push_return_frame(m, (CODE + 0x10, KERNEL_CODE, 2, STACK, 0))
    assert step(model, m, IRETQ) == -1
    assert m.SEGMENT_SELECTOR[SS] == 0
    assert m.SEGMENT_RIGHTS[SS] >> 5 & 3 == 0


@pytest.mark.parametrize(("cpl", "iopl", "allowed"), [(0, 0, True), (3, 3, True), (3, 0, False)])
def test_cli_and_sti(model: Model, m: Any, cpl: int, iopl: int, allowed: bool) -> None:
    enter(m, cpl)
    m.RFLAGS |= iopl << 12
    assert step(model, m, CLI) == (-1 if allowed else GP)
    if not allowed:
        return
    assert m.RFLAGS & IF == 0
    step(model, m, STI)
    assert m.RFLAGS & IF
    assert m.INTERRUPTIBILITY == 1
    step(model, m, NOP)
    assert m.INTERRUPTIBILITY == 0


# --- in VMX non-root operation.  SDM 3C 26.2, 28.2 ---

EXCEPTION_OR_NMI, TRIPLE_FAULT, INTERRUPT_WINDOW, PREEMPTION_TIMER = 0, 2, 7, 52


def exit_of(model: Model, m: Any, code: str = NOP) -> Any:
    """The VM exit that the next cycle ends in."""
    m.IN_NON_ROOT = True
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex(code))
    with pytest.raises(Abort) as caught:
        model.functions["cycle"](m)
    return caught.value.value


def test_the_exception_bitmap(model: Model, m: Any) -> None:
    m.vmcs.EXCEPTION_BITMAP = 1 << 6
    event = exit_of(model, m, UD2)
    assert (event.reason, event.interruption_information, event.vectoring_information) == (0, 0x80000306, 0)
    assert m.RFLAGS & RF


@pytest.mark.parametrize(
    ("bit", "mask", "match", "exits"), [(1, 0, 0, True), (1, 2, 0, False), (0, 2, 0, True)]
)
def test_page_faults_exit_by_their_error_code(
    model: Model, m: Any, bit: int, mask: int, match: int, exits: bool
) -> None:
    m.vmcs.EXCEPTION_BITMAP = bit << PF
    m.vmcs.PAGE_FAULT_ERROR_CODE_MASK, m.vmcs.PAGE_FAULT_ERROR_CODE_MATCH = mask, match
    m.GPR[0] = 0x200018
    m.IN_NON_ROOT = True
    if not exits:
        assert step(model, m, "48 89 00") == PF
        return
    event = exit_of(model, m, "48 89 00")
    assert (event.interruption_information, event.interruption_error) == (0x80000B0E, 2)
    assert event.qualification == 0x200018
    assert m.CR2 == 0


def test_a_software_interrupt_ignores_the_exception_bitmap_but_int3_does_not(model: Model, m: Any) -> None:
    m.vmcs.EXCEPTION_BITMAP = 0xFFFFFFFF
    m.IN_NON_ROOT = True
    assert step(model, m, "cd 06") == 6
    enter(m, 0)
    assert exit_of(model, m, INT3).interruption_information == 0x80000603


def test_an_exception_during_delivery_names_the_event(model: Model, m: Any) -> None:
    m.vmcs.EXCEPTION_BITMAP = 1 << GP
    m.IDTR_LIMIT = 0
    event = exit_of(model, m, INT_80)
    assert (event.interruption_information, event.interruption_error) == (0x80000B0D, 0x402)
    assert event.vectoring_information == 0x80000480


def test_a_triple_fault_exits(model: Model, m: Any) -> None:
    m.IDTR_LIMIT = 0
    assert exit_of(model, m, UD2).reason == TRIPLE_FAULT
    assert m.ACTIVITY_STATE == 0


def test_the_preemption_timer(model: Model, m: Any) -> None:
    m.vmcs.PIN_BASED_CONTROLS, m.PREEMPTION_TIMER_VALUE = 1 << 6, 2
    m.IN_NON_ROOT = True
    for _ in range(2):
        step(model, m, NOP)
    assert exit_of(model, m).reason == PREEMPTION_TIMER
    assert m.RIP == CODE + 2


def test_the_interrupt_window_opens_behind_sti(model: Model, m: Any) -> None:
    m.vmcs.PRIMARY_CONTROLS = 1 << 2
    m.RFLAGS, m.IN_NON_ROOT = 2, True
    step(model, m, STI)
    step(model, m, NOP)
    assert exit_of(model, m).reason == INTERRUPT_WINDOW
    assert m.RIP == CODE + 2


def test_an_exit_keeps_the_blocking_by_sti(model: Model, m: Any) -> None:
    m.vmcs.EXCEPTION_BITMAP = 1 << 6
    m.INTERRUPTIBILITY = 1
    exit_of(model, m, UD2)
    assert m.INTERRUPTIBILITY == 1


@pytest.mark.parametrize(("controls", "blocked"), [(0, False), (1 << 3, True), (1 << 3 | 1 << 5, False)])
def test_iretq_ends_the_blocking_of_the_guests_nmis(
    model: Model, m: Any, controls: int, blocked: bool
) -> None:
    m.vmcs.PIN_BASED_CONTROLS, m.INTERRUPTIBILITY, m.IN_NON_ROOT = controls, 8, True
    push_return_frame(m, (CODE, KERNEL_CODE, 2, STACK, KERNEL_DATA))
    step(model, m, IRETQ)
    assert (m.INTERRUPTIBILITY == 8) == blocked
