"""VMX: the VMCS, the bitmaps, entering and leaving a guest.  SDM 3C 25, 27, 28"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import CODE, VALID, enter, is_exit, machine, run

from refmodel.model import Model
from refmodel.runtime import Abort

RSP = 4
CS, TR = 1, 7
READ, WRITE = 0, 1
ACTIVATE_SECONDARY, USE_MSR_BITMAPS, USE_IO_BITMAPS, UNCONDITIONAL_IO = 1 << 31, 1 << 28, 1 << 25, 1 << 24
ENABLE_EPT = 1 << 1
CPUID, INVALID_GUEST = 10, 33


@pytest.fixture
def m(model: Model) -> Any:
    return machine(model)


# --- the VMCS ------------------------------------------------------------------------------------


def test_encodings_tell_width_and_kind(model: Model) -> None:
    """Bits 14:13 of an encoding are the width, bits 11:10 the kind of field.  SDM 3C 25.11.2"""
    for name, field in model.program.state.items():
        if field.space != "vmcs":
            continue
        assert field.encoding is not None
        width = {0: 16, 1: 64, 2: 32, 3: 64}[field.encoding >> 13 & 3]
        assert getattr(field.type, "width", None) == width, name
        kind = field.encoding >> 10 & 3
        if name.startswith(("GUEST_", "HOST_")) and name not in {
            "GUEST_PHYSICAL_ADDRESS",
            "GUEST_LINEAR_ADDRESS",
        }:
            assert kind == (2 if name.startswith("GUEST_") else 3), name
        else:
            assert kind < 2 or name in {"VMCS_LINK_POINTER", "VMX_PREEMPTION_TIMER_VALUE"}, name


def test_encodings_are_unique(model: Model) -> None:
    encodings = [field.encoding for field in model.program.state_in("vmcs")]
    assert len(encodings) == len(set(encodings)) > 130


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("VIRTUAL_PROCESSOR_ID", 0x0000),
        ("GUEST_TR_SELECTOR", 0x080E),
        ("MSR_BITMAP", 0x2004),
        ("EPT_POINTER", 0x201A),
        ("GUEST_PHYSICAL_ADDRESS", 0x2400),
        ("GUEST_IA32_EFER", 0x2806),
        ("PRIMARY_CONTROLS", 0x4002),
        ("SECONDARY_CONTROLS", 0x401E),
        ("EXIT_REASON", 0x4402),
        ("EXIT_INSTRUCTION_LENGTH", 0x440C),
        ("GUEST_CS_ACCESS_RIGHTS", 0x4816),
        ("CR4_READ_SHADOW", 0x6006),
        ("EXIT_QUALIFICATION", 0x6400),
        ("GUEST_RIP", 0x681E),
        ("HOST_RSP", 0x6C14),
    ],
)
def test_encodings_of_the_manual(model: Model, name: str, encoding: int) -> None:
    assert model.program.state[name].encoding == encoding


# --- the bitmaps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "byte", "bit"),
    [(0, 0, 0), (0x174, 0x2E, 4), (0x1FFF, 0x3FF, 7), (0xC0000080, 0x410, 0), (0xC0001FFF, 0x7FF, 7)],
)
@pytest.mark.parametrize("access", [READ, WRITE])
def test_msr_bitmap(model: Model, m: Any, access: int, index: int, byte: int, bit: int) -> None:
    """Reads have the first half of the page, writes the second.  SDM 3C 25.6.9"""
    m.vmcs.PRIMARY_CONTROLS, m.vmcs.MSR_BITMAP = USE_MSR_BITMAPS, 0x5000
    intercepted = model.functions["is_msr_intercepted"]
    assert not intercepted(m, index, access)
    m.PHYSICAL.write_8(0x5000 + byte + (0x800 if access == WRITE else 0), 1 << bit)
    assert intercepted(m, index, access)
    assert not intercepted(m, index, WRITE - access)
    assert not intercepted(m, index ^ 1, access)


@pytest.mark.parametrize("index", [0x2000, 0x40000000, 0xBFFFFFFF, 0xC0002000, 0xFFFFFFFF])
def test_msrs_outside_the_bitmap_exit(model: Model, m: Any, index: int) -> None:
    m.vmcs.PRIMARY_CONTROLS, m.vmcs.MSR_BITMAP = USE_MSR_BITMAPS, 0x5000
    assert model.functions["is_msr_intercepted"](m, index, READ)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("port", [0, 0x7FFE, 0x7FFF, 0x8000, 0xFFFC, 0xFFFE, 0xFFFF])
def test_io_bitmaps(model: Model, m: Any, port: int, size: int) -> None:
    """An access exits if one of its ports has a bit, or if it wraps around.  SDM 3C 25.6.4, 26.1.3"""
    m.vmcs.PRIMARY_CONTROLS, m.vmcs.IO_BITMAP_A, m.vmcs.IO_BITMAP_B = USE_IO_BITMAPS, 0x5000, 0x6000
    exits, wraps = model.functions["io_exits"], port + size > 0x10000
    assert exits(m, port, size) == wraps
    for probe in range(-1, 5):
        target = port + probe & 0xFFFF
        m.PHYSICAL.write_8(0x5000 + target // 8, 1 << target % 8)
        assert exits(m, port, size) == (wraps or 0 <= probe < size)
        m.PHYSICAL.write_8(0x5000 + target // 8, 0)


def test_io_bitmaps_override_unconditional_exiting(model: Model, m: Any) -> None:
    m.vmcs.PRIMARY_CONTROLS = UNCONDITIONAL_IO
    assert model.functions["io_exits"](m, 0x80, 1)
    m.vmcs.PRIMARY_CONTROLS |= USE_IO_BITMAPS
    m.vmcs.IO_BITMAP_A = 0x5000
    assert not model.functions["io_exits"](m, 0x80, 1)


# --- entering and leaving ------------------------------------------------------------------------


def test_a_valid_vmcs_enters(model: Model, m: Any) -> None:
    enter(model, m)
    assert m.IN_NON_ROOT
    assert (m.RIP, m.GPR[RSP], m.CR3, m.EFER) == (CODE, 0xB000, 0x1000, 0xD00)
    assert (m.SEGMENT_SELECTOR[TR], m.SEGMENT_LIMIT[TR], m.SEGMENT_RIGHTS[CS]) == (0x18, 0x67, 0xA09B)


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (7, {"PIN_BASED_CONTROLS": 0}),
        (7, {"PIN_BASED_CONTROLS": 0x36}),  # virtual NMIs without NMI exiting
        (7, {"PRIMARY_CONTROLS": 0x04006172 | 1 << 17}),
        (7, {"PRIMARY_CONTROLS": 0x04006172 | ACTIVATE_SECONDARY, "SECONDARY_CONTROLS": 1 << 7}),
        (7, {"PRIMARY_CONTROLS": 0x04006172 | USE_IO_BITMAPS, "IO_BITMAP_B": 0x123}),
        (7, {"PRIMARY_CONTROLS": 0x04006172 | USE_MSR_BITMAPS, "MSR_BITMAP": 1 << 40}),
        (
            7,
            {
                "PRIMARY_CONTROLS": 0x04006172 | ACTIVATE_SECONDARY,
                "SECONDARY_CONTROLS": ENABLE_EPT,
                "EPT_POINTER": 0x101F,
            },
        ),
        (7, {"CR3_TARGET_COUNT": 5}),
        (7, {"EXIT_CONTROLS": 0}),
        (7, {"ENTRY_CONTROLS": 0}),
        (7, {"ENTRY_INTERRUPTION_INFORMATION": 0x80000103}),  # type 1 is reserved
        (7, {"ENTRY_INTERRUPTION_INFORMATION": 0x80000B06}),  # #UD has no error code
        (7, {"ENTRY_INTERRUPTION_INFORMATION": 0x80000480, "ENTRY_INSTRUCTION_LENGTH": 16}),
        (8, {"HOST_CR0": 0x80000011}),
        (8, {"HOST_CR4": 0x20}),
        (8, {"HOST_CS_SELECTOR": 0}),
        (8, {"HOST_SS_SELECTOR": 3}),
        (8, {"HOST_GDTR_BASE": 1 << 63}),
        (8, {"HOST_RIP": 1 << 47}),
        (8, {"HOST_IA32_EFER": 0}),
    ],
)
def test_invalid_controls_and_host_state(model: Model, m: Any, error: int, fields: dict[str, int]) -> None:
    enter(model, m, **fields)
    assert not m.IN_NON_ROOT
    assert error == m.vmcs.VM_INSTRUCTION_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        {"GUEST_CR0": 0x80010011},  # NE
        {"GUEST_CR0": 0x00010031},  # PG
        {"GUEST_CR4": 0x20},  # VMXE
        {"GUEST_CR4": 0x2000},  # PAE
        {"GUEST_CR3": 1 << 40},
        {"GUEST_IA32_EFER": 0xC00},  # LME
        {"GUEST_RIP": 1 << 48},  # bits 63 to 48 differ
        {"GUEST_RFLAGS": 0},
        {"GUEST_RFLAGS": 2 | 1 << 17},  # VM
        {"GUEST_CS_ACCESS_RIGHTS": 0xE09B},  # L and D
        {"GUEST_CS_ACCESS_RIGHTS": 0xA093},  # data
        {"GUEST_SS_SELECTOR": 0x13},
        {"GUEST_SS_ACCESS_RIGHTS": 0xC0F3},  # DPL 3
        {"GUEST_DS_ACCESS_RIGHTS": 0xC092},  # not accessed
        {"GUEST_DS_LIMIT": 0xFFFFF000},  # with G
        {"GUEST_TR_ACCESS_RIGHTS": 0x89},  # not busy
        {"GUEST_TR_SELECTOR": 0x1C},  # in the LDT
        {"GUEST_LDTR_ACCESS_RIGHTS": 0x80},
        {"GUEST_GDTR_LIMIT": 0x10000},
        {"GUEST_IA32_SYSENTER_EIP": 1 << 62},
        {"GUEST_ACTIVITY_STATE": 4},
        {"GUEST_INTERRUPTIBILITY_STATE": 1},  # blocking by STI with IF clear
        {"GUEST_INTERRUPTIBILITY_STATE": 3, "GUEST_RFLAGS": 0x202},
        {"GUEST_PENDING_DEBUG_EXCEPTIONS": 0x10},
        {"VMCS_LINK_POINTER": 0x1000},
        {"ENTRY_INTERRUPTION_INFORMATION": 0x80000020},  # an interrupt with IF clear
    ],
)
def test_invalid_guest_state(model: Model, m: Any, fields: dict[str, int]) -> None:
    """It fails the entry: a VM exit that loads the host's state and leaves the guest's.  SDM 3C 27.8"""
    with pytest.raises(Abort) as failure:
        enter(model, m, **fields)
    assert is_exit(failure.value.value, INVALID_GUEST)
    guest = {name: getattr(m.vmcs, name) for name in VALID if name.startswith("GUEST_")}
    model.functions["vm_exit"](m, failure.value.value)
    assert m.vmcs.EXIT_REASON == 0x80000021
    assert guest == {name: getattr(m.vmcs, name) for name in guest}
    assert not m.IN_NON_ROOT


def test_an_exit_saves_the_guest_and_loads_the_host(model: Model, m: Any) -> None:
    enter(model, m, HOST_RSP=0xA000, HOST_RIP=0x4000, HOST_FS_BASE=0x123, GUEST_GS_BASE=0x777)
    m.GPR[RSP], m.SEGMENT_BASE[4] = 0x9000, 0x5555
    outcome = run(m, "0f a2")  # CPUID
    model.functions["vm_exit"](m, outcome)
    saved = m.vmcs
    assert (saved.EXIT_REASON, saved.EXIT_INSTRUCTION_LENGTH) == (CPUID, 2)
    assert (saved.GUEST_RIP, saved.GUEST_RSP, saved.GUEST_FS_BASE, saved.GUEST_GS_BASE) == (
        CODE,
        0x9000,
        0x5555,
        0x777,
    )
    assert (m.RIP, m.GPR[RSP], m.SEGMENT_BASE[4], m.RFLAGS, m.DR7) == (0x4000, 0xA000, 0x123, 2, 0x400)
    assert (m.SEGMENT_RIGHTS[CS], m.SEGMENT_LIMIT[TR], m.SEGMENT_SELECTOR[6]) == (0xA09B, 0x67, 0)


def test_cache_bits_of_cr0_are_not_switched(model: Model, m: Any) -> None:
    """ET, NW and CD stay what they are.  SDM 3C 27.3.2.1, 28.5.1"""
    enter(model, m, GUEST_CR0=0xE0010021)
    assert m.CR0 == 0x80010031
    m.CR0 |= 0x40000000
    model.functions["vm_exit"](m, run(m, "0f a2"))
    assert m.vmcs.GUEST_CR0 == 0xC0010031
    assert m.CR0 == 0xC0000031


@pytest.mark.parametrize(
    "name", ["control_rules", "host_rules", "guest_register_rules", "guest_segment_rules"]
)
def test_each_rule_can_be_evaluated_alone(model: Model, m: Any, name: str) -> None:
    for rule in model.program.rules[name].rules:
        assert model.functions[f"rule_{name}_{rule.name}"](m), rule.name
