"""The MSRs about VMX, and the areas of MSRs that VM entry and VM exit work through.  SDM 3D A, 3C 27.4, 28.4, 28.6"""

from __future__ import annotations

from typing import Any, cast

import pytest
from vmx_guest import enter, is_exit, is_fault, machine, run

from grammar import ir
from refmodel.model import Model
from refmodel.runtime import Abort

RAX, RCX, RDX = 0, 1, 2
GP, MSR_LOADING = 13, 34
STAR, LSTAR, FS_BASE, GS_BASE = 0xC0000081, 0xC0000082, 0xC0000100, 0xC0000101
AREA, BITMAP = 0x20000, 0x21000
USE_MSR_BITMAPS = 1 << 28
NOT_CANONICAL = 1 << 62


@pytest.fixture
def m(model: Model) -> Any:
    return machine(model)


def write_area(m: Any, *entries: tuple[int, int]) -> None:
    for number, (index, value) in enumerate(entries):
        m.PHYSICAL.write_64(AREA + 16 * number, index)
        m.PHYSICAL.write_64(AREA + 16 * number + 8, value)


def fails_entry(model: Model, m: Any, **fields: int) -> Any:
    with pytest.raises(Abort) as abort:
        enter(model, m, **fields)
    return abort.value.value


# --- capabilities ---


def capability(model: Model, m: Any, index: int) -> int:
    """What RDMSR reads in a guest that may."""
    if not m.IN_NON_ROOT:
        enter(model, m, PRIMARY_CONTROLS=0x04006172 | USE_MSR_BITMAPS, MSR_BITMAP=BITMAP)
    m.GPR[RCX] = index
    assert run(m, "0f 32") is None
    value: int = m.GPR[RDX] << 32 | m.GPR[RAX]
    return value


def test_basic_capabilities(model: Model, m: Any) -> None:
    basic = capability(model, m, 0x480)
    assert basic & 1 << 31 == 0
    assert basic >> 32 & 0x1FFF == 0x1000  # bytes of a VMCS
    assert basic >> 50 & 0xF == 6  # write-back
    assert basic >> 55 & 1  # there are the true controls


@pytest.mark.parametrize(
    ("first", "true", "field"),
    [
        (0x481, 0x48D, "PIN_BASED_CONTROLS"),
        (0x482, 0x48E, "PRIMARY_CONTROLS"),
        (0x483, 0x48F, "EXIT_CONTROLS"),
        (0x484, 0x490, "ENTRY_CONTROLS"),
    ],
)
def test_controls_that_must_be_one_may_be_one(
    model: Model, m: Any, first: int, true: int, field: str
) -> None:
    """And the older MSRs ask for more of them.  SDM 3D A.2"""
    old, new = capability(model, m, first), capability(model, m, true)
    assert new & 0xFFFFFFFF & ~(new >> 32) == 0
    assert old >> 32 == new >> 32
    assert new & 0xFFFFFFFF & ~old == 0
    assert getattr(m.vmcs, field) & new & 0xFFFFFFFF == new & 0xFFFFFFFF


def test_every_control_of_the_specification_is_offered_and_no_other(model: Model, m: Any) -> None:
    """A control that is left out reads 0; those of virtual interrupts and of user wait are named, but left out."""
    left_out = {"APIC_REGISTER_VIRTUALIZATION", "VIRTUAL_INTERRUPT_DELIVERY", "ENABLE_USER_WAIT_AND_PAUSE"}
    fields = cast(ir.Bitfield, model.program.types["SecondaryControls"]).members
    offered = capability(model, m, 0x48B) >> 32
    assert offered == sum(1 << f.low for f in fields if f.name not in left_out)


def test_capabilities_are_read_only(model: Model, m: Any) -> None:
    capability(model, m, 0x48C)
    assert is_fault(run(m, "0f 30"), GP)


def test_the_adjustment_follows_the_tsc(model: Model, m: Any) -> None:
    """SDM 3B 18.17.3"""
    write = model.functions["write_msr"]
    m.TSC = 100
    write(m, 0x10, 150)
    assert m.MSR[0x3B] == 50
    write(m, 0x3B, 30)
    assert m.TSC == 130


# --- areas ---


def test_entry_loads_msrs_in_order(model: Model, m: Any) -> None:
    write_area(m, (STAR, 1), (LSTAR, 2), (STAR, 3))
    enter(model, m, ENTRY_MSR_LOAD_ADDRESS=AREA, ENTRY_MSR_LOAD_COUNT=3)
    assert (m.IN_NON_ROOT, m.MSR[STAR], m.MSR[LSTAR]) == (True, 3, 2)


def test_areas_can_hold_512_msrs(model: Model, m: Any) -> None:
    write_area(m, *((STAR, n) for n in range(512)))
    enter(model, m, ENTRY_MSR_LOAD_ADDRESS=AREA, ENTRY_MSR_LOAD_COUNT=512)
    assert m.MSR[STAR] == 511


@pytest.mark.parametrize(
    "entry", [(FS_BASE, 0), (GS_BASE, 0), (LSTAR, NOT_CANONICAL), (0x12345, 0), (STAR | 1 << 32, 0)], ids=str
)
def test_an_msr_that_cannot_be_loaded_fails_the_entry(model: Model, m: Any, entry: tuple[int, int]) -> None:
    """The qualification is the number of the entry.  SDM 3C 27.8"""
    write_area(m, (STAR, 1), entry)
    failure = fails_entry(model, m, ENTRY_MSR_LOAD_ADDRESS=AREA, ENTRY_MSR_LOAD_COUNT=2)
    assert is_exit(failure, MSR_LOADING)
    assert failure.qualification == 2
    model.functions["vm_exit"](m, failure)
    assert m.vmcs.EXIT_REASON == 0x80000022


def test_an_exit_stores_and_loads_msrs(model: Model, m: Any) -> None:
    write_area(m, (STAR, 0), (LSTAR, 0))
    enter(model, m, EXIT_MSR_STORE_ADDRESS=AREA, EXIT_MSR_STORE_COUNT=2)
    m.vmcs.EXIT_MSR_LOAD_ADDRESS, m.vmcs.EXIT_MSR_LOAD_COUNT = AREA + 0x100, 1
    m.PHYSICAL.write_64(AREA + 0x100, STAR)
    m.PHYSICAL.write_64(AREA + 0x108, 0x77)
    m.MSR[STAR], m.MSR[LSTAR] = 0x11, 0x22
    model.functions["vm_exit"](m, run(m, "0f a2"))
    assert [m.PHYSICAL.read_64(AREA + offset) for offset in (8, 24)] == [0x11, 0x22]
    assert m.MSR[STAR] == 0x77


@pytest.mark.parametrize("count", [0, 1, 16, 17, 512])
def test_areas_are_worked_through_to_their_end(model: Model, m: Any, count: int) -> None:
    """And no further."""
    entries = [(STAR, n + 1) for n in range(513)]
    write_area(m, *entries)
    assert model.functions["load_msrs"](m, AREA, count) == 0
    assert m.MSR[STAR] == count
    m.MSR[STAR] = 0x7777
    assert model.functions["store_msrs"](m, AREA, count)
    stored = [m.PHYSICAL.read_64(AREA + 16 * n + 8) for n in range(513)]
    assert stored == [0x7777] * count + [n + 1 for n in range(count, 513)]


def exit_aborts(model: Model, m: Any) -> None:
    """The VM exit of CPUID is a VMX abort.  SDM 3C 28.7"""
    with pytest.raises(Abort) as abort:
        model.functions["vm_exit"](m, run(m, "0f a2"))
    assert abort.value.value.what == model.namespace["OutsideModel_VMX_ABORT"]


@pytest.mark.parametrize("entry", [0x12345, *(STAR | 1 << bit for bit in range(32, 64))])
def test_an_msr_that_cannot_be_stored_aborts(model: Model, m: Any, entry: int) -> None:
    """SDM 3C 28.4: one that there is not, or an entry with a reserved bit set."""
    enter(model, m)
    m.vmcs.EXIT_MSR_STORE_ADDRESS, m.vmcs.EXIT_MSR_STORE_COUNT = AREA, 1
    m.PHYSICAL.write_64(AREA, entry)
    exit_aborts(model, m)


def test_a_wrong_area_at_an_exit_aborts(model: Model, m: Any) -> None:
    """SDM 3C 28.7"""
    enter(model, m)
    m.vmcs.EXIT_MSR_LOAD_ADDRESS, m.vmcs.EXIT_MSR_LOAD_COUNT = AREA, 1
    m.PHYSICAL.write_64(AREA, FS_BASE)
    exit_aborts(model, m)


# --- checks of the controls and states that are about all this.  SDM 3C 27.2.1, 27.3.1 ---

SECONDARY = {"PRIMARY_CONTROLS": 0x04006172 | 1 << 31}
TPR_SHADOW = {"PRIMARY_CONTROLS": 0x04006172 | 1 << 31 | 1 << 21}


@pytest.mark.parametrize(
    "fields",
    [
        {"ENTRY_MSR_LOAD_ADDRESS": AREA + 8, "ENTRY_MSR_LOAD_COUNT": 1},
        {"EXIT_MSR_STORE_ADDRESS": (1 << 40) - 16, "EXIT_MSR_STORE_COUNT": 2},
        {"EXIT_CONTROLS": 0x36FFF | 3 << 20 | 1 << 22},  # saves a timer that does not run
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 22},  # MBEC without EPT
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 13, "VM_FUNCTION_CONTROLS": 1},  # EPTP switching without EPT
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 13, "VM_FUNCTION_CONTROLS": 2},  # not a function
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 14, "VMREAD_BITMAP": 1},
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 18, "VIRTUALIZATION_EXCEPTION_INFO": 1 << 40},
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 0, "APIC_ACCESS_ADDRESS": 0x800},
        {**SECONDARY, "SECONDARY_CONTROLS": 1 << 4},  # x2APIC without the TPR shadow
        {**TPR_SHADOW, "SECONDARY_CONTROLS": 1 << 4 | 1 << 0},
        {**TPR_SHADOW, "TPR_THRESHOLD": 1, "VIRTUAL_APIC_ADDRESS": AREA},  # the priority is 0
    ],
    ids=str,
)
def test_invalid_controls(model: Model, m: Any, fields: dict[str, int]) -> None:
    enter(model, m, **fields)
    assert (m.IN_NON_ROOT, m.vmcs.VM_INSTRUCTION_ERROR) == (False, 7)


@pytest.mark.parametrize(
    ("fields", "qualification"),
    [
        ({"VMCS_LINK_POINTER": AREA}, 4),  # no revision
        ({"VMCS_LINK_POINTER": AREA + 1}, 4),
        ({"GUEST_INTERRUPTIBILITY_STATE": 2, "ENTRY_INTERRUPTION_INFORMATION": 0x80000202}, 3),  # NMI
        ({"GUEST_INTERRUPTIBILITY_STATE": 2, "GUEST_CR4": 0, "ENTRY_INTERRUPTION_INFORMATION": 0x202}, 0),
        ({"GUEST_CR4": 0, "ENTRY_INTERRUPTION_INFORMATION": 0x80000202}, 0),  # nothing blocks the NMI
        ({"GUEST_INTERRUPTIBILITY_STATE": 2, "GUEST_RFLAGS": 0x102}, 0),  # no single step is pending
        ({"GUEST_RIP": 1 << 32, "GUEST_CS_ACCESS_RIGHTS": 0xC09B}, 0),
    ],
    ids=str,
)
def test_invalid_guest_state(model: Model, m: Any, fields: dict[str, int], qualification: int) -> None:
    assert fails_entry(model, m, **fields).qualification == qualification


def test_a_pending_monitor_trap_needs_no_control(model: Model, m: Any) -> None:
    """SDM 3C 27.6.2"""
    assert is_exit(fails_entry(model, m, ENTRY_INTERRUPTION_INFORMATION=0x80000700), 37)
    assert m.IN_NON_ROOT
