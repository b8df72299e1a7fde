"""System calls, waiting, caches, random numbers and saved state.  SDM 2, 3A 5.8.7, 3A 5.8.8, 1 13"""

from __future__ import annotations

import random
from typing import Any

import pytest
from vmx_guest import CODE, enter, is_exit, is_fault, machine, run

from refmodel.model import Model

RAX, RCX, RDX, RBX, RSP, R11 = 0, 1, 2, 3, 4, 11
CS, SS, FS, GS = 1, 2, 4, 5
UD, NM, GP = 6, 7, 13
STAR, LSTAR, FMASK = 0xC0000081, 0xC0000082, 0xC0000084
KERNEL_GS_BASE, TSC_AUX = 0xC0000102, 0xC0000103
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
CR4 = 0x2020
OSXSAVE, FSGSBASE, UMIP = 1 << 18, 1 << 16, 1 << 11
AREA = 0x7000


@pytest.fixture
def m(model: Model) -> Any:
    return machine(model)


def to_user(m: Any) -> None:
    m.SEGMENT_RIGHTS[SS], m.SEGMENT_SELECTOR[SS] = 0xC0F3, 0x33
    m.SEGMENT_RIGHTS[CS], m.SEGMENT_SELECTOR[CS] = 0xA0FB, 0x2B


def enter_with(model: Model, m: Any, secondary: int = 0, primary: int = 0, **fields: int) -> None:
    enter(
        model,
        m,
        PRIMARY_CONTROLS=0x04006172 | 1 << 31 | primary,
        SECONDARY_CONTROLS=secondary,
        **fields,
    )


# --- system calls --------------------------------------------------------------------------------


def test_syscall_and_sysret(model: Model, m: Any) -> None:
    enter(model, m, GUEST_IA32_EFER=0xD01)
    to_user(m)
    m.MSR[STAR], m.MSR[LSTAR], m.MSR[FMASK] = 0x001B_0008_0000_0000, 0x9000, 0x202
    m.RFLAGS = 0x246
    assert run(m, "0f 05") is None
    assert (m.RIP, m.GPR[RCX], m.GPR[R11], m.RFLAGS) == (0x9000, CODE + 2, 0x246, 0x46)
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_RIGHTS[CS]) == (0x08, 0xA09B)
    assert (m.SEGMENT_SELECTOR[SS], m.SEGMENT_RIGHTS[SS]) == (0x10, 0xC093)
    m.GPR[R11] |= 1 << 16 | 1 << 17 | 1 << 5  # RF, VM and a reserved flag
    assert run(m, "48 0f 07") is None
    assert (m.RIP, m.RFLAGS) == (CODE + 2, 0x246)
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_RIGHTS[CS]) == (0x2B, 0xA0FB)
    assert (m.SEGMENT_SELECTOR[SS], m.SEGMENT_RIGHTS[SS]) == (0x23, 0xC0F3)
    assert is_fault(run(m, "48 0f 07"), GP)


def test_syscall_needs_its_enable_bit_and_sysret_a_canonical_address(model: Model, m: Any) -> None:
    enter(model, m)
    assert is_fault(run(m, "0f 05"), UD)
    assert is_fault(run(m, "0f 07"), UD)
    m.EFER |= 1
    m.GPR[RCX] = 1 << 47
    assert is_fault(run(m, "48 0f 07"), GP)
    assert run(m, "0f 07") is None  # to compatibility mode, with 32 bits
    assert (m.RIP, m.SEGMENT_RIGHTS[CS]) == (0, 0xC0FB)


def test_sysenter_and_sysexit(model: Model, m: Any) -> None:
    enter(
        model, m, GUEST_IA32_SYSENTER_CS=0x08, GUEST_IA32_SYSENTER_ESP=0xC000, GUEST_IA32_SYSENTER_EIP=0x9000
    )
    to_user(m)
    m.RFLAGS = 0x202
    assert run(m, "0f 34") is None
    assert (m.RIP, m.GPR[RSP], m.RFLAGS) == (0x9000, 0xC000, 2)
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS]) == (0x08, 0x10)
    m.GPR[RDX], m.GPR[RCX] = CODE, 0xB000
    assert run(m, "48 0f 35") is None
    assert (m.RIP, m.GPR[RSP]) == (CODE, 0xB000)
    assert (m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS]) == (0x2B, 0x33)
    m.MSR[SYSENTER_CS] = 3
    assert is_fault(run(m, "0f 34"), GP)


def test_bases_of_fs_and_gs(model: Model, m: Any) -> None:
    enter(model, m, GUEST_CR4=CR4 | FSGSBASE)
    m.GPR[RAX] = 0xFFFF_8000_1234_5678
    assert run(m, "f3 48 0f ae d0") is None  # WRFSBASE RAX
    assert run(m, "f3 0f ae d8") is None  # WRGSBASE EAX
    assert (m.SEGMENT_BASE[FS], m.SEGMENT_BASE[GS]) == (0xFFFF_8000_1234_5678, 0x1234_5678)
    assert run(m, "f3 0f ae c1") is None  # RDFSBASE ECX
    assert m.GPR[RCX] == 0x1234_5678
    m.MSR[KERNEL_GS_BASE] = 0x5000
    assert run(m, "0f 01 f8") is None  # SWAPGS
    assert (m.SEGMENT_BASE[GS], m.MSR[KERNEL_GS_BASE]) == (0x5000, 0x1234_5678)
    m.GPR[RAX] = 1 << 47
    assert is_fault(run(m, "f3 48 0f ae d0"), GP)
    to_user(m)
    assert is_fault(run(m, "0f 01 f8"), GP)
    m.CR4 = CR4
    assert is_fault(run(m, "f3 48 0f ae c0"), UD)


# --- counters ------------------------------------------------------------------------------------


def test_rdtscp(model: Model, m: Any) -> None:
    enter_with(model, m)
    assert is_fault(run(m, "0f 01 f9"), UD)
    m.vmcs.SECONDARY_CONTROLS = 1 << 3
    m.MSR[TSC_AUX], m.TSC = 0x1_0000_0007, 0x2_0000_0003
    assert run(m, "0f 01 f9") is None
    assert (m.GPR[RAX], m.GPR[RDX], m.GPR[RCX]) == (3, 2, 7)
    m.vmcs.PRIMARY_CONTROLS |= 1 << 12
    assert is_exit(run(m, "0f 01 f9"), 51)
    m.CR4 |= 4
    to_user(m)
    assert is_fault(run(m, "0f 01 f9"), GP)


def test_rdpmc_knows_its_counters(model: Model, m: Any) -> None:
    enter(model, m)
    m.PERFORMANCE_COUNTER[0x40000001] = 0x12_3456_789A
    for counter, exists in ((0, True), (3, True), (4, False), (0x40000001, True), (0x40000003, False)):
        m.GPR[RCX] = counter
        assert is_fault(run(m, "0f 33"), GP) != exists
        if counter == 0x40000001:
            assert (m.GPR[RDX], m.GPR[RAX]) == (0x12, 0x3456789A)
    m.GPR[RCX] = 0
    to_user(m)
    assert is_fault(run(m, "0f 33"), GP)
    m.CR4 |= 1 << 8
    assert run(m, "0f 33") is None


# --- translations, caches, waiting, random numbers -----------------------------------------------


@pytest.mark.parametrize(
    ("kind", "pcid", "address", "is_valid"),
    [
        (0, 0, 0x5000, True),
        (0, 0, 1 << 47, False),
        (0, 1, 0x5000, False),  # CR4.PCIDE is 0
        (1, 1, 0, False),
        (2, 1, 1 << 47, True),
        (3, 0, 0, True),
        (4, 0, 0, False),
        (2, 1 << 12, 0, False),
    ],
)
def test_invpcid(model: Model, m: Any, kind: int, pcid: int, address: int, is_valid: bool) -> None:
    enter_with(model, m, secondary=1 << 12)
    m.GPR[RAX], m.GPR[RBX] = kind, AREA
    m.PHYSICAL.write_64(AREA, pcid)
    m.PHYSICAL.write_64(AREA + 8, address)
    outcome = run(m, "66 0f 38 82 03")
    assert outcome is None if is_valid else is_fault(outcome, GP)
    m.vmcs.PRIMARY_CONTROLS |= 1 << 9
    m.RIP = CODE
    assert is_exit(run(m, "66 0f 38 82 03"), 58)
    m.vmcs.SECONDARY_CONTROLS = 0
    assert is_fault(run(m, "66 0f 38 82 03"), UD)


@pytest.mark.parametrize("code", ["0f ae 3b", "66 0f ae 3b"])
def test_a_flushed_line_is_accessed(model: Model, m: Any, code: str) -> None:
    enter(model, m)
    m.GPR[RBX] = 1 << 47
    assert is_fault(run(m, code), GP)
    m.GPR[RBX] = 0x20_0000
    assert is_fault(run(m, code), 14)
    m.GPR[RBX] = AREA
    assert run(m, code) is None


@pytest.mark.parametrize("code", ["0f 18 0b", "0f 0d 0b", "0f 1f 03", "0f ae e8", "0f ae f7", "0f ae f8"])
def test_hints_and_fences_touch_nothing(model: Model, m: Any, code: str) -> None:
    enter(model, m)
    m.GPR[RBX] = 1 << 47
    assert run(m, code) is None


def test_monitor_and_mwait(model: Model, m: Any) -> None:
    enter(model, m)
    m.GPR[RAX] = AREA
    assert run(m, "0f 01 c8") is None
    m.vmcs.PRIMARY_CONTROLS |= 1 << 10 | 1 << 29
    outcome = run(m, "0f 01 c9")
    assert is_exit(outcome, 36)
    assert outcome.qualification == 1  # MONITOR came before
    assert is_exit(run(m, "0f 01 c8"), 39)
    to_user(m)
    assert is_fault(run(m, "0f 01 c8"), UD)
    assert is_fault(run(m, "0f 01 c9"), UD)


@pytest.mark.parametrize(("code", "reason"), [("f2 0f ae f0", 67), ("66 0f ae f0", 68)])
def test_user_wait_needs_its_control(model: Model, m: Any, code: str, reason: int) -> None:
    enter_with(model, m)
    assert is_fault(run(m, code), UD)
    m.vmcs.SECONDARY_CONTROLS = 1 << 26
    m.GPR[RAX] = 2
    assert is_fault(run(m, code), GP)
    m.vmcs.PRIMARY_CONTROLS |= 1 << 12
    assert is_exit(run(m, code), reason)


@pytest.mark.parametrize(
    ("code", "information"), [("66 0f c7 f3", 0x018), ("0f c7 f1", 0x808), ("49 0f c7 f9", 0x1048)]
)
def test_random_numbers(model: Model, m: Any, code: str, information: int) -> None:
    """The register and the operand size.  SDM 3C table 28-12"""
    enter_with(model, m)
    m.RFLAGS = 0x8D6
    assert run(m, code) is None
    assert m.RFLAGS == 3
    m.vmcs.SECONDARY_CONTROLS = 1 << 11 | 1 << 16
    outcome = run(m, code)
    assert is_exit(outcome, 61 if "f9" in code else 57)
    assert outcome.instruction_information == information


# --- extended state ------------------------------------------------------------------------------


def with_xsave(model: Model, m: Any) -> None:
    enter_with(model, m, secondary=1 << 20, GUEST_CR4=CR4 | OSXSAVE)
    m.XCR0, m.GPR[RAX], m.GPR[RBX] = 7, 7, AREA
    rng = random.Random(1)
    m.X87_STATE = rng.getrandbits(832) & ~(0xFF << 40 | 0xFFFF << 112 | 0xFFFF << 176)
    m.SSE_STATE, m.AVX_STATE = rng.getrandbits(2048), rng.getrandbits(2048)
    m.MXCSR = 0x1FA0


@pytest.mark.parametrize("save", ["48 0f ae 23", "48 0f ae 33", "48 0f c7 23", "48 0f c7 2b"])
@pytest.mark.parametrize("asked", [7, 5, 2])
def test_what_is_saved_is_restored(model: Model, m: Any, save: str, asked: int) -> None:
    with_xsave(model, m)
    names = ("X87_STATE", "SSE_STATE", "AVX_STATE")
    before = [getattr(m, name) for name in names]
    assert run(m, save) is None
    for name in names:
        setattr(m, name, 1)
    m.GPR[RAX] = asked
    restore = "48 0f c7 1b" if save.startswith("48 0f c7") else "48 0f ae 2b"  # XRSTORS, XRSTOR
    assert run(m, restore) is None
    assert [getattr(m, name) for name in names] == [
        value if asked >> n & 1 else 1 for n, value in enumerate(before)
    ]


def test_the_layout_of_a_save_area(model: Model, m: Any) -> None:
    with_xsave(model, m)
    m.GPR[RAX] = 6
    assert run(m, "0f ae 23") is None
    assert m.PHYSICAL.read_64(AREA) == 0  # x87 was not asked for
    assert m.PHYSICAL.read_64(AREA + 24) == 0xFFFF_0000_1FA0
    assert m.PHYSICAL.read_64(AREA + 160) == m.SSE_STATE & (1 << 64) - 1
    assert m.PHYSICAL.read_64(AREA + 576) == m.AVX_STATE & (1 << 64) - 1
    assert m.PHYSICAL.read_64(AREA + 512) == 6
    m.AVX_STATE = 0
    assert run(m, "0f c7 23") is None  # XSAVEC
    assert (m.PHYSICAL.read_64(AREA + 512), m.PHYSICAL.read_64(AREA + 520)) == (2, 1 << 63 | 6)


@pytest.mark.parametrize(
    ("place", "value"), [(512, 8), (520, 1), (520, 1 << 63 | 8), (528, 1), (24, 0x10000), (520, 1 << 63)]
)
def test_an_area_that_cannot_be_restored(model: Model, m: Any, place: int, value: int) -> None:
    with_xsave(model, m)
    assert run(m, "0f ae 23") is None
    m.PHYSICAL.write_64(AREA + place, value)
    assert is_fault(run(m, "0f ae 2b"), GP)


def test_faults_of_xsave_in_order(model: Model, m: Any) -> None:
    with_xsave(model, m)
    m.GPR[RBX] += 8
    assert is_fault(run(m, "0f ae 23"), GP)
    m.CR0 |= 8
    assert is_fault(run(m, "0f ae 23"), NM)
    m.vmcs.SECONDARY_CONTROLS = 0
    assert is_fault(run(m, "0f c7 2b"), UD)
    to_user(m)
    assert is_fault(run(m, "0f c7 2b"), GP)
    m.CR4 = CR4
    assert is_fault(run(m, "0f ae 23"), UD)


def test_xgetbv_and_xsetbv(model: Model, m: Any) -> None:
    with_xsave(model, m)
    m.SSE_STATE, m.MXCSR, m.AVX_STATE = 0, 0x1F80, 0
    for index, value in ((0, 7), (1, 1)):
        m.GPR[RCX] = index
        assert run(m, "0f 01 d0") is None
        assert (m.GPR[RAX], m.GPR[RDX]) == (value, 0)
    m.GPR[RCX] = 2
    assert is_fault(run(m, "0f 01 d0"), GP)
    assert is_exit(run(m, "0f 01 d1"), 55)
    to_user(m)
    assert is_fault(run(m, "0f 01 d1"), GP)


# --- what this processor does not have -----------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "0f aa",  # RSM
        "0f 37",  # GETSEC
        "0f 01 cf",  # ENCLS
        "0f 01 c0",  # ENCLV
        "0f 01 c5",  # PCONFIG
        "0f 01 ee",  # RDPKRU
        "0f 01 d8",  # VMRUN
        "f3 0f c7 f8",  # RDPID
        "66 0f ae 33",  # CLWB
        "f2 0f 01 ca",  # ERETS
        "0f 01 28",
    ],
)
def test_other_opcodes_are_undefined(model: Model, m: Any, code: str) -> None:
    enter(model, m)
    assert is_fault(run(m, code), UD)


def test_clac_and_stac_are_undefined_for_users(model: Model, m: Any) -> None:
    enter(model, m)
    assert run(m, "0f 01 cb") is None
    assert m.RFLAGS == 2 | 1 << 18
    assert run(m, "0f 01 ca") is None
    assert m.RFLAGS == 2
    to_user(m)
    assert is_fault(run(m, "0f 01 cb"), UD)
