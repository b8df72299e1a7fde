"""VMX: the VMCS, the bitmaps, entering and leaving a guest, and what its sensitive instructions do.  SDM 3C 25 to 28"""

from __future__ import annotations

import random
from typing import Any

import pytest

import refmodel
from refmodel.model import Model
from refmodel.runtime import Abort

RAX, RCX, RDX, RSP = 0, 1, 2, 4
CS, SS, TR = 1, 2, 7
READ, WRITE = 0, 1
UD, GP = 6, 13
CODE = 0x8000
ACTIVATE_SECONDARY, USE_MSR_BITMAPS, USE_IO_BITMAPS, UNCONDITIONAL_IO = 1 << 31, 1 << 28, 1 << 25, 1 << 24
ENABLE_EPT = 1 << 1
EXCEPTION, CPUID, HLT, CR_ACCESS, MOV_DR, IO, RDMSR, WRMSR, INVALID_GUEST = 0, 10, 12, 28, 29, 30, 31, 32, 33

# A VMCS that passes all checks: a 64-bit guest at CPL 0 with flat memory, and a 64-bit host.
VALID = {
    "PIN_BASED_CONTROLS": 0x16,
    "PRIMARY_CONTROLS": 0x04006172,
    "EXIT_CONTROLS": 0x00036DFF | 1 << 9 | 3 << 20,
    "ENTRY_CONTROLS": 0x000011FF | 1 << 9 | 1 << 15,
    "GUEST_CR0": 0x80010031,
    "GUEST_CR3": 0x1000,
    "GUEST_CR4": 0x2020,
    "GUEST_IA32_EFER": 0xD00,
    "GUEST_RIP": CODE,
    "GUEST_RSP": 0xB000,
    "GUEST_RFLAGS": 2,
    "GUEST_DR7": 0x400,
    "GUEST_CS_SELECTOR": 0x08,
    "GUEST_CS_LIMIT": 0xFFFFFFFF,
    "GUEST_CS_ACCESS_RIGHTS": 0xA09B,
    **{f"GUEST_{s}_SELECTOR": 0x10 for s in ("ES", "SS", "DS", "FS", "GS")},
    **{f"GUEST_{s}_LIMIT": 0xFFFFFFFF for s in ("ES", "SS", "DS", "FS", "GS")},
    **{f"GUEST_{s}_ACCESS_RIGHTS": 0xC093 for s in ("ES", "SS", "DS", "FS", "GS")},
    "GUEST_LDTR_ACCESS_RIGHTS": 0x10000,
    "GUEST_TR_SELECTOR": 0x18,
    "GUEST_TR_LIMIT": 0x67,
    "GUEST_TR_ACCESS_RIGHTS": 0x8B,
    "VMCS_LINK_POINTER": (1 << 64) - 1,
    "HOST_CR0": 0x80000031,
    "HOST_CR4": 0x2020,
    "HOST_IA32_EFER": 0xD00,
    "HOST_CS_SELECTOR": 0x08,
    "HOST_TR_SELECTOR": 0x18,
}


@pytest.fixture(scope="module")
def model() -> Model:
    return refmodel.load()


@pytest.fixture
def m(model: Model) -> Any:
    """A processor in VMX root operation, with a valid VMCS and identity page tables for the guest."""
    machine = model.machine(1 << 20)
    for address, entry in ((0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x87)):
        machine.PHYSICAL.write_64(address, entry)
    machine.CR0 = VALID["HOST_CR0"]
    for name, value in VALID.items():
        setattr(machine.vmcs, name, value)
    return machine


def enter(model: Model, m: Any, **fields: int) -> Any:
    """Enters the guest with some VMCS fields changed."""
    for name, value in fields.items():
        setattr(m.vmcs, name, value)
    model.functions["vm_entry"](m)
    return m


def run(m: Any, code: str) -> Any:
    """Runs one instruction; the exit or fault that it raises, or None."""
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex(code))
    m.cache_translate.clear()
    try:
        m.execute()
    except Abort as abort:
        return abort.value
    return None


def is_exit(outcome: Any, reason: int) -> bool:
    return getattr(outcome, "reason", None) == reason


def is_fault(outcome: Any, vector: int) -> bool:
    return getattr(outcome, "vector", None) == vector


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
        {"GUEST_RIP": 1 << 47},
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


# --- control registers ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_masks_and_shadows_of_cr0(model: Model, m: Any, seed: int) -> None:
    """A write exits if it differs from the shadow in a bit of the mask; other bits are written.  SDM 3C 26.1.3, 26.3"""
    enter(model, m)
    rng, free = random.Random(seed), 0x0005000E  # AM WP TS EM MP: may have any value
    for _ in range(100):
        m.RIP, old = CODE, 0x80000031 | rng.getrandbits(32) & free
        mask, shadow = rng.getrandbits(32) & free, rng.getrandbits(32) & free
        value = 0x80000031 | rng.getrandbits(32) & free
        m.CR0, m.vmcs.CR0_GUEST_HOST_MASK, m.vmcs.CR0_READ_SHADOW, m.GPR[RAX] = old, mask, shadow, value
        assert run(m, "0f 20 c0") is None  # MOV RAX, CR0
        assert m.GPR[RAX] == old & ~mask | shadow & mask
        m.RIP, m.GPR[RAX] = CODE, value
        outcome = run(m, "0f 22 c0")  # MOV CR0, RAX
        if (value ^ shadow) & mask:
            assert is_exit(outcome, CR_ACCESS)
            assert old == m.CR0
        else:
            assert outcome is None
            assert old & mask | value & ~mask == m.CR0


@pytest.mark.parametrize(
    ("code", "value", "qualification"),
    [
        ("0f 22 d8", 0x1000, 0x003),
        ("41 0f 22 dc", 0x1000, 0xC03),
        ("0f 20 da", 0, 0x213),
        ("0f 20 dc", 0, 0x413),
    ],
)
def test_qualification_of_cr3_accesses(
    model: Model, m: Any, code: str, value: int, qualification: int
) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | 3 << 15)
    m.GPR[RAX] = m.GPR[12] = value
    outcome = run(m, code)
    assert is_exit(outcome, CR_ACCESS)
    assert outcome.qualification == qualification


def test_lmsw_reports_what_it_was_asked(model: Model, m: Any) -> None:
    enter(model, m, CR0_GUEST_HOST_MASK=8)
    m.GPR[RAX] = 0x1234_FFFF
    assert run(m, "0f 01 f0").qualification == 0xFFFF_0030


# --- priorities: undefined opcodes and privilege before the exit, other faults after it ------------


def to_user(m: Any) -> None:
    m.SEGMENT_RIGHTS[SS], m.SEGMENT_SELECTOR[CS] = 0xC0F3, 0x2B


@pytest.mark.parametrize("code", ["f4", "0f 08", "0f 22 c0", "0f 32", "0f 30", "0f 06"])
def test_privilege_comes_before_the_exit(model: Model, m: Any, code: str) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | 1 << 7, CR0_GUEST_HOST_MASK=0xFFFFFFFF)
    to_user(m)
    assert is_fault(run(m, code), GP)


@pytest.mark.parametrize(
    ("code", "reason"), [("0f a2", CPUID), ("0f 21 c0", MOV_DR), ("0f 01 c1", 18), ("0f 01 c2", 20)]
)
def test_these_exit_at_any_privilege(model: Model, m: Any, code: str, reason: int) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | 1 << 23)
    to_user(m)
    assert is_exit(run(m, code), reason)


def test_mov_dr_exits_before_all_but_an_undefined_register(model: Model, m: Any) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | 1 << 23, GUEST_CR4=0x2028, GUEST_DR7=0x2400)
    assert is_exit(run(m, "0f 21 e0"), MOV_DR)  # DR4 with CR4.DE, and DR7.GD
    assert is_fault(run(m, "44 0f 21 c0"), UD)  # DR8


def test_an_invalid_value_comes_after_the_exit(model: Model, m: Any) -> None:
    enter(model, m, CR0_GUEST_HOST_MASK=1 << 29)
    m.GPR[RAX] = 0xA0010031  # NW without CD
    assert is_exit(run(m, "0f 22 c0"), CR_ACCESS)
    m.vmcs.CR0_GUEST_HOST_MASK = 0
    assert is_fault(run(m, "0f 22 c0"), GP)


def test_vmx_instructions_are_undefined_without_vmx(m: Any) -> None:
    m.CR3, m.CR4, m.EFER, m.RIP, m.SEGMENT_RIGHTS[SS] = 0x1000, 0x20, 0xD00, CODE, 0xC093
    assert is_fault(run(m, "0f 01 c1"), UD)


# --- MSRs and ports ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "value", "is_valid"),
    [
        (0xC0000080, 0xD01, True),
        (0xC0000080, 0x501, True),
        (0xC0000080, 0xC01, False),  # LME cannot change while paging is on
        (0xC0000080, 0xD03, False),
        (0xC0000101, 0x7FFF_FFFF_FFFF, True),
        (0xC0000101, 0x8000_0000_0000, False),
        (0xC0000102, 0xFFFF_8000_0000_0000, True),
        (0x176, 1 << 62, False),
        (0x277, 0x0007040600070406, True),
        (0x277, 0x02, False),
        (0xC0000103, 1 << 32, False),
        (0x3A, 0, False),  # locked
        (0x1234, 0, False),  # no such MSR
    ],
)
def test_values_that_msrs_accept(model: Model, m: Any, index: int, value: int, is_valid: bool) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | USE_MSR_BITMAPS, MSR_BITMAP=0x5000)
    m.GPR[RCX], m.GPR[RAX], m.GPR[RDX] = index, value & 0xFFFFFFFF, value >> 32
    outcome = run(m, "0f 30")
    assert outcome is None if is_valid else is_fault(outcome, GP)
    if is_valid:
        m.RIP, m.GPR[RAX], m.GPR[RDX] = CODE, 0, 0
        assert run(m, "0f 32") is None
        assert m.GPR[RDX] << 32 | m.GPR[RAX] == value | (0x400 if index == 0xC0000080 else 0)


def test_the_time_stamp_counter_is_offset(model: Model, m: Any) -> None:
    enter(
        model,
        m,
        PRIMARY_CONTROLS=0x04006172 | 1 << 3 | USE_MSR_BITMAPS,
        MSR_BITMAP=0x5000,
        TSC_OFFSET=(1 << 64) - 0x1000,
    )
    m.TSC = 0x2_0000_0234
    assert run(m, "0f 31") is None  # RDTSC
    assert (m.GPR[RDX], m.GPR[RAX]) == (1, 0xFFFFF234)
    m.RIP, m.GPR[RCX] = CODE, 0x10
    assert run(m, "0f 32") is None
    assert (m.GPR[RDX], m.GPR[RAX]) == (1, 0xFFFFF234)


@pytest.mark.parametrize(
    ("code", "qualification"),
    [("e4 80", 0x0080_0048), ("66 e7 80", 0x0080_0041), ("ed", 0x1234_000B), ("ee", 0x1234_0000)],
)
def test_qualification_of_ports(model: Model, m: Any, code: str, qualification: int) -> None:
    enter(model, m, PRIMARY_CONTROLS=0x04006172 | UNCONDITIONAL_IO)
    m.GPR[RDX] = 0xABCD_1234
    outcome = run(m, code)
    assert is_exit(outcome, IO)
    assert outcome.qualification == qualification


@pytest.mark.parametrize(("bit", "is_allowed"), [(None, True), (7, False), (0, False), (6, True)])
def test_io_permission_bitmap(model: Model, m: Any, bit: int | None, is_allowed: bool) -> None:
    """Above IOPL, every port of the access needs a clear bit in the TSS.  SDM 1 19.5.2"""
    enter(model, m, GUEST_TR_BASE=0x6000, GUEST_TR_LIMIT=0x200)
    to_user(m)
    m.PHYSICAL.write_16(0x6000 + 102, 0x68)
    if bit is not None:  # of ports 0x80 to 0x87, or of the next eight
        m.PHYSICAL.write_8(0x6000 + 0x68 + (0x80 >> 3) + (bit == 0), 1 << bit)
    outcome = run(m, "66 e5 87")  # IN AX, 0x87
    assert outcome is None if is_allowed else is_fault(outcome, GP)
