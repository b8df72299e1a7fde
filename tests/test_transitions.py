"""What VM exits save and load, and what VM entries inject, rule by rule.  SDM 3C 27.6, 28.3, 28.5"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import enter, is_exit, machine, run

from refmodel.model import Model

RF = 1 << 16
CS, LDTR, TR = 1, 6, 7
ACTIVE, HALTED = 0, 1
BLOCKED_NMIS = 8
VALID, HARDWARE, NMI, SOFTWARE_INTERRUPT, SOFTWARE = 1 << 31, 3 << 8, 2 << 8, 4 << 8, 6 << 8
EXCEPTION, EXTERNAL, CPUID, MTF, APIC_ACCESS, EPT_VIOLATION, EPT_MISCONFIGURATION = 0, 1, 10, 37, 44, 48, 49
LOAD_EFER, LOAD_DEBUG_CONTROLS, MONITOR_TRAP = 1 << 21, 1 << 2, 1 << 27
TRIPLE_FAULT, IA32_DEBUGCTL = 2, 0x1D9
UNUSABLE, DATA, CODE, TSS = 0x10000, 0xC093, 0xA09B, 0x8B


@pytest.fixture
def m(model: Model) -> Any:
    return machine(model)


def exit_of(model: Model, reason: int, information: int = 0, vectoring: int = 0) -> Any:
    return model.namespace["VmExit"](
        reason=reason, interruption_information=information, vectoring_information=vectoring
    )


RESUME = [
    (CPUID, 0, 0, False),
    (EXTERNAL, 0, 0, False),
    (EPT_VIOLATION, 0, 0, True),
    (EPT_MISCONFIGURATION, 0, 0, True),
    (APIC_ACCESS, 0, 0, True),
    # Where an event was being delivered, only a fault is resumed.
    (EPT_VIOLATION, 0, VALID | HARDWARE | 14, True),
    (EPT_VIOLATION, 0, VALID | SOFTWARE_INTERRUPT | 0x80, False),
    (EPT_VIOLATION, 0, SOFTWARE_INTERRUPT | 0x80, True),
    (EPT_VIOLATION, 0, VALID | 7 << 8, False),
    (EXCEPTION, VALID | HARDWARE | 14, 0, True),
    (EXCEPTION, VALID | HARDWARE | 13, VALID | SOFTWARE_INTERRUPT | 0x80, False),
    (EXCEPTION, VALID | HARDWARE | 1, 0, False),
    (EXCEPTION, VALID | SOFTWARE | 3, 0, False),
    (EXCEPTION, VALID | SOFTWARE_INTERRUPT | 3, 0, False),
    (EXCEPTION, VALID | NMI | 2, 0, False),
    (EXCEPTION, VALID | 7 << 8 | 3, 0, False),
]


@pytest.mark.parametrize(("reason", "information", "vectoring", "saved"), RESUME)
@pytest.mark.parametrize("flag", [0, RF])
def test_the_resume_flag(
    model: Model, m: Any, reason: int, information: int, vectoring: int, saved: bool, flag: int
) -> None:
    """SDM 3C 28.3.3: set if it was, or if the instruction is to be executed again."""
    m.RFLAGS = 2 | flag
    model.functions["save_guest"](m, exit_of(model, reason, information, vectoring))
    assert 2 | (RF if saved or flag else 0) == m.vmcs.GUEST_RFLAGS


@pytest.mark.parametrize(
    ("reason", "information", "is_db"),
    [
        (EXCEPTION, VALID | HARDWARE | 1, True),
        (EXCEPTION, VALID | HARDWARE | 0x81, False),
        (EXCEPTION, VALID | HARDWARE | 3, False),
        (CPUID, 1, False),
    ],
)
def test_pending_debug_exceptions_are_saved_unless_one_exits(
    model: Model, m: Any, reason: int, information: int, is_db: bool
) -> None:
    """SDM 3C 28.3.4: after STI with RFLAGS.TF the single-step trap is pending."""
    m.RFLAGS, m.INTERRUPTIBILITY = 0x302, 1
    model.functions["save_guest"](m, exit_of(model, reason, information))
    assert (0 if is_db else 1 << 14) == m.vmcs.GUEST_PENDING_DEBUG_EXCEPTIONS


def test_without_blocking_nothing_is_pending(model: Model, m: Any) -> None:
    m.RFLAGS = 0x302
    model.functions["save_guest"](m, exit_of(model, CPUID))
    assert m.vmcs.GUEST_PENDING_DEBUG_EXCEPTIONS == 0


def test_debug_controls_are_loaded_if_asked_for(model: Model, m: Any) -> None:
    """SDM 3C 27.3.2.1"""
    for control, loaded in ((0, (0x401, 0)), (LOAD_DEBUG_CONTROLS, (0x4FF, 2))):
        m.DR7, m.MSR[IA32_DEBUGCTL] = 0x401, 0
        m.vmcs.GUEST_DR7, m.vmcs.GUEST_IA32_DEBUGCTL = 0x4FF, 2
        m.vmcs.ENTRY_CONTROLS = m.vmcs.ENTRY_CONTROLS & ~LOAD_DEBUG_CONTROLS | control
        model.functions["load_guest"](m)
        assert (m.DR7, m.MSR[IA32_DEBUGCTL]) == loaded


def test_the_hosts_registers_are_loaded_from_where_they_would_be_saved(model: Model, m: Any) -> None:
    """SDM 3C 25.5: one field for each."""
    names = ("CR0", "CR3", "CR4", "RIP", "GDTR_BASE", "IDTR_BASE")
    elements = [(m.GPR, 4), (m.MSR, 0x175), (m.MSR, 0x176), *((m.SEGMENT_BASE, n) for n in (4, 5, TR))]
    elements += [(m.SEGMENT_SELECTOR, n) for n in (0, CS, 2, 3, 4, 5, TR)]
    for number, name in enumerate(names):
        setattr(m, name, 0x80000001 + 0x1000 * number)
    for number, (registers, index) in enumerate(elements):
        registers[index] = 0x100 + number
    model.functions["save_host_state"](m)
    for name in names:
        setattr(m, name, 0)
    for registers, index in elements:
        registers[index] = 0
    model.functions["load_host_state"](m)
    assert [getattr(m, name) for name in names] == [0x80000001 + 0x1000 * n for n in range(len(names))]
    assert [registers[index] for registers, index in elements] == [0x100 + n for n in range(len(elements))]


@pytest.mark.parametrize(
    "index", [*range(0x174, 0x177), IA32_DEBUGCTL, 0x277, *range(0xC0000081, 0xC0000085)]
)
def test_the_msrs_that_are_switched(model: Model, m: Any, index: int) -> None:
    """SDM 3C 25.4.1, 27.3.2.1, 28.3.1: IA32_DEBUGCTL, IA32_SYSENTER_CS, _ESP and _EIP, without any other control."""
    enter(model, m)
    m.MSR[index] = 2
    model.functions["vm_exit"](m, exit_of(model, CPUID))
    m.MSR[index] = 1
    enter(model, m)
    switched = m.MSR[index] == 2
    assert switched == (index in {*range(0x174, 0x177), IA32_DEBUGCTL})
    assert model.functions["is_switched_msr"](m, index) == switched


@pytest.mark.parametrize("intercepted", [True, False])
def test_the_resume_flag_of_a_triple_fault(model: Model, m: Any, intercepted: bool) -> None:
    """A fault sets it, whether it exits or shuts the processor down.  SDM 3B 18.3.1.1, 3C 26.2, 28.3.3"""
    fault = model.namespace["Fault"]
    m.IN_NON_ROOT, m.RFLAGS, m.vmcs.EXCEPTION_BITMAP = True, 2, intercepted << 13
    with pytest.raises(model.namespace["VmExitAbort"]) as raised:
        model.functions["shut_down"](m, fault(vector=8, kind=3), fault(vector=13, kind=3))
    assert is_exit(raised.value.value, EXCEPTION if intercepted else TRIPLE_FAULT)
    assert m.RFLAGS == 2 | RF


@pytest.mark.parametrize("in_guest", [False, True])
def test_only_guests_exit(model: Model, m: Any, monkeypatch: pytest.MonkeyPatch, in_guest: bool) -> None:
    """docs/language.md: an exit outside of VMX non-root operation is none, whatever asks for it."""
    monkeypatch.setitem(model.namespace, "deliver_exception", lambda _m, _event: None)
    m.IN_NON_ROOT = in_guest
    m.vmcs.ENTRY_INTERRUPTION_INFORMATION = VALID | 7 << 8  # a pending monitor trap
    m.vmcs.EPT_POINTER = 0x40000
    m.PHYSICAL.write_64(0x40000, 2)  # permits writes only
    outcomes = []
    for name, arguments in (("inject_event", ()), ("ept_find_leaf", (0, 0, 0))):
        try:
            model.functions[name](m, *arguments)
        except model.namespace["VmExitAbort"] as exit_:
            outcomes.append(exit_.value.reason)
    assert outcomes == ([MTF, EPT_MISCONFIGURATION] if in_guest else [])


def test_the_host_is_active(model: Model, m: Any) -> None:
    m.ACTIVITY_STATE, m.INTERRUPTIBILITY, m.DR7, m.RFLAGS = HALTED, BLOCKED_NMIS, 0x155, 0x302
    model.functions["load_host"](m)
    assert (m.ACTIVITY_STATE, m.INTERRUPTIBILITY, m.DR7, m.RFLAGS) == (ACTIVE, 0, 0x400, 2)


@pytest.mark.parametrize(("control", "loaded"), [(0, 0x500), (LOAD_EFER, 0xD01)])
def test_efer_of_the_host_is_loaded_if_asked_for(model: Model, m: Any, control: int, loaded: int) -> None:
    m.EFER, m.vmcs.HOST_IA32_EFER, m.vmcs.EXIT_CONTROLS = 0x500, 0xD01, 0x36DFF | control
    model.functions["load_host"](m)
    assert loaded == m.EFER


@pytest.mark.parametrize("selector", [0, 0x10])
def test_segments_of_the_host(model: Model, m: Any, selector: int) -> None:
    """SDM 3C 28.5.2: unusable if the selector is null, but for CS; LDTR is unusable."""
    for name in ("ES", "SS", "DS", "FS", "GS"):
        setattr(m.vmcs, f"HOST_{name}_SELECTOR", selector)
    for segment in range(8):
        m.SEGMENT_LIMIT[segment], m.SEGMENT_RIGHTS[segment], m.SEGMENT_SELECTOR[segment] = 1, 1, 1
    m.GDTR_LIMIT = m.IDTR_LIMIT = 1
    model.functions["load_host"](m)
    for segment in (0, 2, 3, 4, 5):
        assert m.SEGMENT_RIGHTS[segment] == (DATA if selector else UNUSABLE)
        assert m.SEGMENT_LIMIT[segment] == 0xFFFFFFFF
    assert (m.SEGMENT_RIGHTS[CS], m.SEGMENT_LIMIT[CS]) == (CODE, 0xFFFFFFFF)
    assert (m.SEGMENT_SELECTOR[LDTR], m.SEGMENT_RIGHTS[LDTR]) == (0, UNUSABLE)
    assert (m.SEGMENT_RIGHTS[TR], m.SEGMENT_LIMIT[TR]) == (TSS, 0x67)
    assert (m.GDTR_LIMIT, m.IDTR_LIMIT) == (0xFFFF, 0xFFFF)


def test_the_monitor_trap_flag(model: Model, m: Any) -> None:
    """SDM 3C 26.5.2: behind the instruction."""
    controls = m.vmcs.PRIMARY_CONTROLS
    enter(model, m, PRIMARY_CONTROLS=controls | MONITOR_TRAP)
    before = m.RIP
    m.PHYSICAL.write_bytes(before, b"\x90")
    with pytest.raises(model.namespace["VmExitAbort"]) as raised:
        model.functions["cycle"](m)
    assert is_exit(raised.value.value, MTF)
    assert before + 1 == m.RIP
    assert run(m, "90") is None


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [(NMI, 0, BLOCKED_NMIS), (0, 0, 0), (0, BLOCKED_NMIS, BLOCKED_NMIS), (0, 1, 0), (HARDWARE, 2, 0)],
)
def test_an_injected_nmi_blocks_others(
    model: Model, m: Any, kind: int, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDM 3C 27.6.1"""
    events: list[tuple[int, int]] = []
    monkeypatch.setitem(
        model.namespace, "deliver_exception", lambda _m, event: events.append((event.kind, event.vector))
    )
    m.INTERRUPTIBILITY, m.vmcs.ENTRY_INTERRUPTION_INFORMATION = before, VALID | kind | 2
    model.functions["inject_event"](m)
    assert (m.INTERRUPTIBILITY, events) == (after, [(kind >> 8, 2)])
