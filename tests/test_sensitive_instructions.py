"""Sensitive instructions in a guest: what exits, what faults first, and what they do.  SDM 3C 26"""

from __future__ import annotations

import random
from typing import Any

import pytest
from vmx_guest import CODE, enter, is_exit, is_fault, machine, run

from refmodel.model import Model

RAX, RCX, RDX = 0, 1, 2
CS, SS = 1, 2
UD, GP = 6, 13
USE_MSR_BITMAPS, UNCONDITIONAL_IO = 1 << 28, 1 << 24
CPUID, CR_ACCESS, MOV_DR, IO = 10, 28, 29, 30


@pytest.fixture
def m(model: Model) -> Any:
    return machine(model)


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
