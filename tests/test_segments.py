"""Segment registers, far transfers and the registers of the descriptor tables.  SDM 3A 3.4, 5"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import CODE, enter, is_exit, is_fault, machine, run

from refmodel.model import Model

RAX, RCX, RBX, RSP = 0, 1, 3, 4
ES, CS, SS, DS, FS, GS, LDTR, TR = range(8)
UD, NP, SS_FAULT, GP = 6, 11, 12, 13
GDT, TSS, STACK, DATA = 0x6000, 0x6800, 0xB000, 0x7000
LDTR_TR_ACCESS = 47
ZF = 1 << 6

# The guest's GDT by selector; code, data, a 64-bit TSS and a call gate.  SDM 3A figures 3-8, 5-9, 7-4
DESCRIPTORS = {
    0x08: 0x00AF9B000000FFFF,  # 64-bit code, DPL 0
    0x10: 0x00CF93000000FFFF,  # data, DPL 0
    0x18: 0x0000890068000067,  # available TSS at 0x6800
    0x28: 0x00AFFB000000FFFF,  # 64-bit code, DPL 3
    0x30: 0x00CFF2123456FFFF,  # data, DPL 3, base 0x123456, not accessed
    0x38: 0x00CF13000000FFFF,  # data, not present
    0x40: 0x00AF99000000FFFF,  # 64-bit code that cannot be read
    0x48: 0x00AF9F000000FFFF,  # conforming code
    0x50: 0x0000EC0000089000,  # call gate to 0x08:0x9000, DPL 3
    0x60: 0x0000820071000007,  # LDT at 0x7100
    0x70: 0x00CF91000000FFFF,  # data that cannot be written
}


@pytest.fixture
def m(model: Model) -> Any:
    """A guest at CPL 0 with that GDT and RSP0 in its TSS."""
    guest = machine(model)
    for selector, descriptor in DESCRIPTORS.items():
        guest.PHYSICAL.write_64(GDT + selector, descriptor)
    guest.PHYSICAL.write_64(TSS + 4, 0xC000)
    fields = {"GUEST_GDTR_BASE": GDT, "GUEST_GDTR_LIMIT": 0x7F, "GUEST_TR_BASE": TSS}
    return enter(model, guest, **fields, GUEST_RSP=STACK)


def to_user(m: Any) -> None:
    m.SEGMENT_RIGHTS[SS], m.SEGMENT_SELECTOR[SS] = 0xC0F3, 0x33
    m.SEGMENT_RIGHTS[CS], m.SEGMENT_SELECTOR[CS] = 0xA0FB, 0x2B


# --- loading and storing -------------------------------------------------------------------------


def test_a_loaded_segment_is_what_its_descriptor_says(m: Any) -> None:
    m.GPR[RAX] = 0x33
    assert run(m, "8e e0") is None  # MOV FS, AX
    assert (m.SEGMENT_SELECTOR[FS], m.SEGMENT_BASE[FS], m.SEGMENT_LIMIT[FS]) == (0x33, 0x123456, 0xFFFFFFFF)
    assert m.SEGMENT_RIGHTS[FS] == 0xC0F3
    assert m.PHYSICAL.read_64(GDT + 0x30) == DESCRIPTORS[0x30] | 1 << 40  # accessed


@pytest.mark.parametrize(
    ("selector", "is_user", "vector", "error"),
    [
        (0x10, False, None, 0),
        (0x13, False, GP, 0x10),  # RPL above DPL
        (0x10, True, GP, 0x10),
        (0x33, True, None, 0),
        (0x38, False, NP, 0x38),
        (0x40, False, GP, 0x40),
        (0x4B, True, None, 0),  # conforming and readable
        (0x18, False, GP, 0x18),
        (0x80, False, GP, 0x80),  # beyond the limit
        (0x14, False, GP, 0x14),  # there is no LDT
        (0x03, True, None, 0),  # null
    ],
)
def test_checks_of_data_segments(
    m: Any, selector: int, is_user: bool, vector: int | None, error: int
) -> None:
    if is_user:
        to_user(m)
    m.GPR[RAX] = selector
    outcome = run(m, "8e d8")  # MOV DS, AX
    if vector is None:
        assert outcome is None
        assert m.SEGMENT_SELECTOR[DS] == selector
    else:
        assert is_fault(outcome, vector)
        assert outcome.error == error


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [(0x10, None, 0), (0, None, 0), (3, GP, 0), (0x33, GP, 0x30), (0x70, GP, 0x70), (0x38, SS_FAULT, 0x38)],
)
def test_checks_of_the_stack_segment(m: Any, selector: int, vector: int | None, error: int) -> None:
    m.GPR[RAX] = selector
    outcome = run(m, "8e d0")  # MOV SS, AX
    assert outcome is None if vector is None else is_fault(outcome, vector) and outcome.error == error
    assert (2 if vector is None else 0) == m.INTERRUPTIBILITY


def test_only_the_first_of_two_loads_of_ss_blocks(model: Model, m: Any) -> None:
    m.PHYSICAL.write_bytes(CODE, bytes.fromhex("8e d0 8e d0"))
    m.GPR[RAX] = 0x10
    for blocking in (2, 0):
        model.functions["cycle"](m)
        assert blocking == m.INTERRUPTIBILITY


def test_cs_is_not_loaded_by_mov(m: Any) -> None:
    assert is_fault(run(m, "8e c8"), UD)
    assert is_fault(run(m, "8c f0"), UD)  # there is no segment register 6


@pytest.mark.parametrize(("code", "size"), [("0f a0", 8), ("66 0f a0", 2)])
def test_push_and_pop_of_a_segment(m: Any, code: str, size: int) -> None:
    m.SEGMENT_SELECTOR[FS] = 0x33
    assert run(m, code) is None
    assert m.GPR[RSP] == STACK - size
    assert m.PHYSICAL.read_16(STACK - size) == 0x33
    m.RIP, m.SEGMENT_SELECTOR[FS] = CODE, 0
    assert run(m, code.replace("a0", "a1")) is None
    assert (m.SEGMENT_SELECTOR[FS], m.GPR[RSP]) == (0x33, STACK)


def test_lfs_loads_both_registers_or_none(m: Any) -> None:
    m.GPR[RBX] = DATA
    m.PHYSICAL.write_bytes(DATA, bytes.fromhex("78 56 34 12 33 00"))
    assert run(m, "0f b4 03") is None  # LFS EAX, [RBX]
    assert (m.GPR[RAX], m.SEGMENT_SELECTOR[FS]) == (0x12345678, 0x33)
    m.RIP, m.GPR[RAX] = CODE, 0
    m.PHYSICAL.write_16(DATA + 4, 0x38)
    assert is_fault(run(m, "0f b4 03"), NP)
    assert m.GPR[RAX] == 0


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "lar", "lsl", "verr", "verw"),
    [
        (0x08, 0xA09B00, 0xFFFFFFFF, True, False),
        (0x10, 0xC09300, 0xFFFFFFFF, True, True),
        (0x18, 0x8900, 0x67, False, False),
        (0x40, 0xA09900, 0xFFFFFFFF, False, False),
        (0x50, 0xEC00, None, False, False),
        (0x70, 0xC09100, 0xFFFFFFFF, True, False),
        (0, None, None, False, False),
        (0x80, None, None, False, False),
        (0x13, None, None, False, False),  # the RPL counts too
    ],
)
def test_what_a_selector_would_give(
    m: Any, selector: int, lar: int | None, lsl: int | None, verr: bool, verw: bool
) -> None:
    for code, value in (("0f 02 c1", lar), ("0f 03 c1", lsl)):
        m.RIP, m.GPR[RCX], m.GPR[RAX] = CODE, selector, 0xDEAD
        assert run(m, code) is None
        assert bool(m.RFLAGS & ZF) == (value is not None)
        assert m.GPR[RAX] & ~0xF0000 == (0xDEAD if value is None else value & ~0xF0000)
    for code, answer in (("0f 00 e1", verr), ("0f 00 e9", verw)):
        m.RIP = CODE
        assert run(m, code) is None
        assert bool(m.RFLAGS & ZF) == answer


# --- far transfers -------------------------------------------------------------------------------


def far_pointer(m: Any, selector: int, offset: int) -> None:
    m.GPR[RBX] = DATA
    m.PHYSICAL.write_64(DATA, offset)
    m.PHYSICAL.write_16(DATA + 8, selector)


def test_far_call_and_return_at_the_same_level(m: Any) -> None:
    far_pointer(m, 0x0B, 0x9000)
    m.SEGMENT_SELECTOR[CS] = 0x40
    assert is_fault(run(m, "48 ff 1b"), GP)  # the RPL is above the CPL
    far_pointer(m, 0x08, 0x9000)
    assert run(m, "48 ff 1b") is None
    assert (m.RIP, m.SEGMENT_SELECTOR[CS], m.GPR[RSP]) == (0x9000, 0x08, STACK - 16)
    assert run(m, "48 cb") is None
    assert (m.RIP, m.SEGMENT_SELECTOR[CS], m.GPR[RSP]) == (CODE + 3, 0x40, STACK)


def test_a_call_gate_leads_inwards_and_back(m: Any) -> None:
    to_user(m)
    far_pointer(m, 0x53, 0x1234)  # of a gate, the offset does not count
    assert run(m, "48 ff 1b") is None
    assert (m.RIP, m.SEGMENT_SELECTOR[CS], m.SEGMENT_SELECTOR[SS]) == (0x9000, 0x08, 0)
    assert m.GPR[RSP] == 0xC000 - 32
    assert [m.PHYSICAL.read_64(0xC000 - 32 + 8 * n) for n in range(4)] == [CODE + 3, 0x2B, STACK, 0x33]
    assert run(m, "48 cb") is None
    assert (m.RIP, m.SEGMENT_SELECTOR[CS], m.GPR[RSP]) == (CODE + 3, 0x2B, STACK)
    assert (m.SEGMENT_SELECTOR[SS], m.SEGMENT_RIGHTS[SS] >> 5 & 3) == (0x33, 3)
    assert m.SEGMENT_RIGHTS[DS] >> 16 & 1  # the segment of the inner level was dropped


def test_a_call_gate_at_the_same_level_pushes_64_bits(m: Any) -> None:
    m.GPR[RBX] = DATA
    m.PHYSICAL.write_bytes(DATA, bytes.fromhex("00 00 50 00"))
    assert run(m, "66 ff 1b") is None
    assert (m.RIP, m.GPR[RSP]) == (0x9000, STACK - 16)


@pytest.mark.parametrize("code", ["48 ff 2b", "48 ff 1b"])
@pytest.mark.parametrize(
    ("selector", "offset", "vector", "error"),
    [
        (0, 0x9000, GP, 0),
        (0x10, 0x9000, GP, 0x10),
        (0x28, 0x9000, GP, 0x28),  # an outer level
        (0x18, 0x9000, GP, 0x18),  # a TSS
        (0x80, 0x9000, GP, 0x80),
        (0x08, 1 << 47, GP, 0),
        (0x48, 0x9000, None, 0),
    ],
)
def test_checks_of_far_transfers(
    m: Any, code: str, selector: int, offset: int, vector: int | None, error: int
) -> None:
    far_pointer(m, selector, offset)
    outcome = run(m, code)
    assert outcome is None if vector is None else is_fault(outcome, vector) and outcome.error == error
    if vector is not None:
        assert (m.GPR[RSP], m.SEGMENT_SELECTOR[CS]) == (STACK, 0x08)


def test_a_gate_does_not_let_a_jump_change_the_level(m: Any) -> None:
    to_user(m)
    far_pointer(m, 0x53, 0)
    outcome = run(m, "48 ff 2b")
    assert is_fault(outcome, GP)
    assert outcome.error == 0x08


# --- LDTR and TR ---------------------------------------------------------------------------------


def test_ltr_marks_the_tss_as_busy(m: Any) -> None:
    m.GPR[RAX] = 0x18
    assert run(m, "0f 00 d8") is None
    assert (m.SEGMENT_BASE[TR], m.SEGMENT_LIMIT[TR], m.SEGMENT_RIGHTS[TR]) == (0x6800, 0x67, 0x8B)
    assert m.PHYSICAL.read_8(GDT + 0x18 + 5) == 0x8B
    m.RIP = CODE
    assert run(m, "0f 00 d8").error == 0x18  # it is not available any more


def test_lldt_loads_a_table_or_none(m: Any) -> None:
    m.GPR[RAX] = 0x60
    assert run(m, "0f 00 d0") is None
    assert (m.SEGMENT_BASE[LDTR], m.SEGMENT_LIMIT[LDTR], m.SEGMENT_RIGHTS[LDTR]) == (0x7100, 7, 0x82)
    m.PHYSICAL.write_64(0x7100, DESCRIPTORS[0x10])
    m.RIP, m.GPR[RAX] = CODE, 4
    assert run(m, "8e d8") is None  # MOV DS, AX: index 0 of the LDT
    m.RIP, m.GPR[RAX] = CODE, 0
    assert run(m, "0f 00 d0") is None
    assert m.SEGMENT_RIGHTS[LDTR] >> 16 & 1
    m.RIP, m.GPR[RAX] = CODE, 0x10
    assert run(m, "0f 00 d0").error == 0x10


@pytest.mark.parametrize(
    ("code", "information"),
    [
        ("0f 00 c1", 0x0000_0408),
        ("0f 00 cb", 0x1000_0418),
        ("0f 00 d2", 0x2000_0410),
        ("0f 00 de", 0x3000_0430),
    ],
)
def test_information_of_descriptor_table_exits(m: Any, code: str, information: int) -> None:
    """The register, and which of SLDT, STR, LLDT and LTR it is.  SDM 3C table 28-11"""
    m.vmcs.PRIMARY_CONTROLS |= 1 << 31
    m.vmcs.SECONDARY_CONTROLS = 1 << 2
    outcome = run(m, code)
    assert is_exit(outcome, LDTR_TR_ACCESS)
    assert outcome.instruction_information == information
    to_user(m)
    outcome = run(m, code)
    assert is_fault(outcome, GP) if "d" in code else is_exit(outcome, LDTR_TR_ACCESS)
