"""Compatibility mode: what bytes mean there, segments that have bases and limits, and the ways in and out.

SDM 1 3.6, 3A 3.4.5, 5.3, 5.5; the instructions' expected results are those of the manual's volume 2.
"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import CODE, enter, is_exit, is_fault, machine, run

from refmodel.model import Model

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)
OF_VECTOR, BR, UD, NP, SS_FAULT, GP = 4, 5, 6, 11, 12, 13
GDT, STACK, DATA, IDENTITY = 0x6000, 0xB000, 0x7000, 0x18
CODE_32, CODE_16, USER_32 = 0xC09B, 0x809B, 0xC0FB
CF, PF, AF, ZF, SF, OF = (1 << bit for bit in (0, 2, 4, 6, 7, 11))

DESCRIPTORS = {
    0x08: 0x00AF9B000000FFFF,  # 64-bit code
    0x10: 0x00CF93000000FFFF,  # data
    0x18: 0x00CF9B000000FFFF,  # 32-bit code
    0x20: 0x00009B000000FFFF,  # 16-bit code, of 64 KB
    0x28: 0x00AFFB000000FFFF,  # 64-bit code, DPL 3
    0x30: 0x00CFF3000000FFFF,  # data, DPL 3
    0x38: 0x00CFFB000000FFFF,  # 32-bit code, DPL 3
}


@pytest.fixture
def m(model: Model) -> Any:
    """A guest at CPL 0 in 32-bit code, with flat segments."""
    guest = machine(model)
    for selector, descriptor in DESCRIPTORS.items():
        guest.PHYSICAL.write_64(GDT + selector, descriptor)
    fields = {"GUEST_GDTR_BASE": GDT, "GUEST_GDTR_LIMIT": 0x3F, "GUEST_RSP": STACK}
    return enter(model, guest, **fields, GUEST_CS_SELECTOR=0x18, GUEST_CS_ACCESS_RIGHTS=CODE_32)


def to_code(m: Any, rights: int, selector: int) -> Any:
    m.SEGMENT_RIGHTS[CS], m.SEGMENT_SELECTOR[CS] = rights, selector
    return m


def to_64_bit(m: Any) -> Any:
    return to_code(m, 0xA09B, 0x08)


# --- what bytes mean ---


def test_one_byte_inc_and_dec(m: Any) -> None:
    m.GPR[RAX], m.GPR[RCX] = 0x1_FFFF_FFFF, 5
    assert run(m, "40") is None
    assert m.GPR[RAX] == 0
    assert run(m, "49") is None
    assert m.GPR[RCX] == 4


def test_operand_and_address_sizes(m: Any) -> None:
    m.GPR[RBX], m.GPR[RSI] = 0xFFFF_7000, 8
    m.PHYSICAL.write_64(DATA + 0x10, 0x8877665544332211)
    assert run(m, "67 8b 40 08") is None  # MOV EAX, [BX+SI+8]: 16-bit address
    assert m.GPR[RAX] == 0x44332211
    m.GPR[RBX] = DATA
    assert run(m, "66 8b 43 10") is None  # MOV AX, [EBX+0x10]
    assert m.GPR[RAX] == 0x44332211
    assert run(m, "a1 14 70 00 00") is None  # MOV EAX, [0x7014]: moffs of 32 bits
    assert m.GPR[RAX] == 0x88776655
    assert run(m, "8b 05 10 70 00 00") is None  # MOV EAX, [0x7010]: not relative to EIP
    assert m.GPR[RAX] == 0x44332211


def test_in_16_bit_code_the_prefixes_ask_for_32_bits(m: Any) -> None:
    to_code(m, CODE_16, 0x20)
    m.GPR[RAX], m.GPR[RBX] = 0xAABBCCDD, 0xFFFF_0000 | DATA
    m.PHYSICAL.write_64(DATA, 0x44332211)
    assert run(m, "8b 07") is None  # MOV AX, [BX]
    assert m.GPR[RAX] == 0xAABB2211
    m.GPR[RBX] = DATA
    assert run(m, "67 66 8b 03") is None  # MOV EAX, [EBX]
    assert m.GPR[RAX] == 0x44332211


def test_addresses_wrap_at_32_bits(m: Any) -> None:
    m.PHYSICAL.write_64(DATA, 0x12345678)
    m.GPR[RBX] = 0xFFFF_FFFF
    assert run(m, "8b 83 01 70 00 00") is None  # MOV EAX, [EBX+0x7001]
    assert m.GPR[RAX] == 0x12345678


@pytest.mark.parametrize("code", ["0f 05", "0f 07", "0f 01 f8", "f3 0f ae c0", "66 0f c7 33", "0f 01 c2"])
def test_what_only_64_bit_mode_has_is_undefined(m: Any, code: str) -> None:
    assert is_fault(run(m, code), UD)


@pytest.mark.parametrize(
    "code",
    ["06", "1f", "27", "37", "60", "61", "82 c0 01", "9a 0 0 0 0 0 0", "ce", "d4 0a", "ea 0 0 0 0 0 0"],
)
def test_what_only_compatibility_mode_has_is_undefined_in_64_bit_mode(m: Any, code: str) -> None:
    octets = " ".join(one.rjust(2, "0") for one in code.split())
    assert is_fault(run(to_64_bit(m), octets), UD)


# --- segments ---


@pytest.mark.parametrize(("offset", "is_allowed"), [(0xFFC, True), (0xFFD, False), (0x1000, False)])
def test_limits_count(m: Any, offset: int, is_allowed: bool) -> None:
    m.SEGMENT_LIMIT[DS] = m.SEGMENT_LIMIT[SS] = 0xFFF
    m.GPR[RBX] = m.GPR[RBP] = offset
    for code, vector in (("8b 03", GP), ("89 03", GP), ("8b 45 00", SS_FAULT)):
        outcome = run(m, code)
        assert outcome is None if is_allowed else is_fault(outcome, vector)


def test_an_expand_down_segment_begins_behind_its_limit(m: Any) -> None:
    m.SEGMENT_RIGHTS[DS], m.SEGMENT_LIMIT[DS] = 0xC097, 0x7000
    m.GPR[RBX] = 0x7000
    assert is_fault(run(m, "8b 03"), GP)
    m.GPR[RBX] = 0x7001
    assert run(m, "8b 03") is None


def test_bases_count(m: Any) -> None:
    m.SEGMENT_BASE[DS], m.GPR[RBX] = DATA, 0x20
    m.PHYSICAL.write_64(DATA + 0x20, 0xCAFE)
    assert run(m, "8b 03") is None
    assert m.GPR[RAX] == 0xCAFE


@pytest.mark.parametrize(
    ("rights", "reads", "writes"),
    [
        (0xC093, True, True),
        (0xC091, True, False),
        (0xC09B, True, False),
        (0xC099, False, False),
        (1 << 16, False, False),
    ],
)
def test_types_count(m: Any, rights: int, reads: bool, writes: bool) -> None:
    m.SEGMENT_RIGHTS[DS], m.GPR[RBX] = rights, DATA
    for code, is_allowed in (("8b 03", reads), ("89 03", writes), ("01 03", writes)):
        outcome = run(m, code)
        assert outcome is None if is_allowed else is_fault(outcome, GP)


def test_a_null_stack_segment_is_refused(m: Any) -> None:
    m.GPR[RAX] = 0
    assert is_fault(run(m, "8e d0"), GP)


def test_code_ends_at_its_limit(m: Any) -> None:
    m.SEGMENT_LIMIT[CS] = CODE + 4
    assert is_fault(run(m, "b8 01 02 03 04 05"), GP) is False  # five bytes fit
    m.RIP = CODE + 1
    assert is_fault(run(m, "b8 01 02 03 04"), GP)
    m.RIP = CODE
    assert is_fault(run(m, "eb 03"), GP)  # to CODE + 5


# --- the stack ---


def test_the_stack_has_32_bits(m: Any) -> None:
    m.GPR[RSP], m.GPR[RAX] = 0x1234_0000_B000, 0x55
    assert run(m, "50") is None
    assert m.GPR[RSP] == 0xAFFC
    assert m.PHYSICAL.read_32(0xAFFC) == 0x55
    assert run(m, "e8 00 00 00 00") is None
    assert m.GPR[RSP] == 0xAFF8
    assert run(m, "c3") is None
    assert (m.RIP, m.GPR[RSP]) == (CODE + 1 + 5, 0xAFFC)


def test_a_16_bit_stack_wraps_within_sp(m: Any) -> None:
    m.SEGMENT_RIGHTS[SS], m.GPR[RSP] = 0x8093, 0x1234_0002
    m.GPR[RAX] = 0x77
    assert run(m, "50") is None
    assert m.GPR[RSP] == 0x1234_FFFE


def test_pusha_and_popa(m: Any) -> None:
    for number in range(8):
        m.GPR[number] = STACK if number == RSP else 0x100 + number
    assert run(m, "60") is None
    assert m.GPR[RSP] == STACK - 32
    pushed = [m.PHYSICAL.read_32(STACK - 4 * (number + 1)) for number in range(8)]
    assert pushed == [STACK if number == RSP else 0x100 + number for number in range(8)]
    m.PHYSICAL.write_32(STACK - 4, 0x999)
    m.PHYSICAL.write_32(STACK - 20, 0x888)  # where ESP was pushed: skipped
    assert run(m, "61") is None
    assert (m.GPR[RAX], m.GPR[RSP]) == (0x999, STACK)


def test_segment_registers_on_the_stack(m: Any) -> None:
    assert run(m, "0e") is None  # PUSH CS
    assert m.PHYSICAL.read_32(STACK - 4) == 0x18
    m.PHYSICAL.write_32(STACK - 4, 0x10)
    assert run(m, "07") is None  # POP ES
    assert (m.SEGMENT_SELECTOR[ES], m.GPR[RSP]) == (0x10, STACK)
    m.PHYSICAL.write_32(STACK, 0x10)
    assert run(m, "17") is None  # POP SS
    assert m.INTERRUPTIBILITY == 2


# --- ways in and out ---


def test_far_jumps_between_the_modes(m: Any) -> None:
    assert run(m, "ea 00 90 00 00 08 00") is None
    assert (m.RIP, m.SEGMENT_RIGHTS[CS]) == (0x9000, 0xA09B)
    m.PHYSICAL.write_64(DATA, 0x0018_0000_8000)
    m.GPR[RBX] = DATA
    assert run(m, "ff 2b") is None  # in 64-bit mode: to 18:8000
    assert (m.RIP, m.SEGMENT_RIGHTS[CS]) == (0x8000, CODE_32)


def test_far_calls_and_returns(m: Any) -> None:
    assert run(m, "9a 00 90 00 00 08 00") is None
    assert (m.RIP, m.GPR[RSP], m.PHYSICAL.read_64(STACK - 8)) == (0x9000, STACK - 8, 0x18_0000_8007)
    assert run(m, "cb") is None  # in 64-bit mode, of 32 bits
    assert (m.RIP, m.GPR[RSP], m.SEGMENT_SELECTOR[CS]) == (0x8007, STACK, 0x18)


def test_iretd_within_a_level_leaves_the_stack_segment(m: Any) -> None:
    for n, word in enumerate((0x9000, 0x18, 2 | CF)):
        m.PHYSICAL.write_32(STACK + 4 * n, word)
    assert run(m, "cf") is None
    assert (m.RIP, m.RFLAGS, m.GPR[RSP], m.SEGMENT_SELECTOR[SS]) == (0x9000, 2 | CF, STACK + 12, 0x10)


def test_iretd_to_the_outer_level_pops_the_stack(m: Any) -> None:
    for n, word in enumerate((0x9000, 0x3B, 2, 0xA000, 0x33)):
        m.PHYSICAL.write_32(STACK + 4 * n, word)
    assert run(m, "cf") is None
    assert (m.RIP, m.GPR[RSP], m.SEGMENT_SELECTOR[SS]) == (0x9000, 0xA000, 0x33)
    assert m.SEGMENT_RIGHTS[CS] == USER_32


def test_sysexit_returns_to_compatibility_mode(m: Any) -> None:
    m.MSR[0x174], m.GPR[RCX], m.GPR[RDX] = 0x18, 0x1_0000_A000, 0x1_0000_9000
    assert run(m, "0f 35") is None
    assert (m.RIP, m.GPR[RSP], m.SEGMENT_SELECTOR[CS], m.SEGMENT_RIGHTS[CS]) == (
        0x9000,
        0xA000,
        0x2B,
        USER_32,
    )


def test_clearing_paging_leaves_the_model(model: Model, m: Any) -> None:
    m.IN_NON_ROOT, m.GPR[RAX] = False, 0x31
    assert run(m, "0f 22 c0").what == model.namespace["OutsideModel_LEGACY_MODE"]


# --- exits ---


def test_an_address_in_an_exit_has_32_bits(m: Any) -> None:
    m.vmcs.PRIMARY_CONTROLS |= 1 << 9
    m.SEGMENT_BASE[DS], m.GPR[RBX] = 0xFFFF_F000, 0x3000
    outcome = run(m, "0f 01 3b")  # INVLPG [EBX]
    assert is_exit(outcome, 14)
    assert outcome.qualification == 0x2000


def test_sgdt_stores_six_bytes(m: Any) -> None:
    m.GDTR_BASE, m.GPR[RBX] = 0x1234_5678_9ABC, DATA
    m.PHYSICAL.write_64(DATA, 0x1122_3344_5566_7788)
    assert run(m, "0f 01 03") is None
    assert m.PHYSICAL.read_64(DATA) == 0x1122_5678_9ABC_003F


# --- instructions of compatibility mode ---


def test_into_raises_overflow_only_if_of_is_set(m: Any) -> None:
    assert run(m, "ce") is None
    m.RFLAGS = 2 | OF
    assert is_fault(run(m, "ce"), OF_VECTOR)


@pytest.mark.parametrize(("index", "is_inside"), [(-2, True), (3, True), (4, False), (-3, False)])
def test_bound(m: Any, index: int, is_inside: bool) -> None:
    m.PHYSICAL.write_64(DATA, 3 << 32 | 0xFFFF_FFFE)
    m.GPR[RAX], m.GPR[RBX] = index & 0xFFFF_FFFF, DATA
    outcome = run(m, "62 03")
    assert outcome is None if is_inside else is_fault(outcome, BR)


@pytest.mark.parametrize(
    ("selector", "other", "result", "zf"), [(8, 3, 0xB, ZF), (0xB, 1, 0xB, 0), (9, 1, 9, 0)]
)
def test_arpl(m: Any, selector: int, other: int, result: int, zf: int) -> None:
    m.GPR[RAX], m.GPR[RCX] = selector, other
    assert run(m, "63 c8") is None
    assert (m.GPR[RAX], m.RFLAGS & ZF) == (result, zf)


def test_far_pointers(m: Any) -> None:
    m.PHYSICAL.write_64(DATA, 0x10_1122_3344)
    m.GPR[RBX], m.SEGMENT_SELECTOR[ES] = DATA, 0
    assert run(m, "c4 03") is None  # LES EAX, [EBX]
    assert (m.GPR[RAX], m.SEGMENT_SELECTOR[ES]) == (0x11223344, 0x10)


@pytest.mark.parametrize(
    ("code", "ax", "flags", "result", "status"),
    [
        ("27", 0xAE, SF | OF, 0x14, AF | PF | CF),  # DAA: the manual's examples
        ("27", 0x2E, SF | OF, 0x34, AF),
        ("2f", 0xEE, SF | AF | PF | CF, 0x88, SF | AF | PF | CF),  # DAS
        ("37", 0x000B, 0, 0x0101, AF | CF),  # AAA
        ("37", 0x0005, 0, 0x0005, 0),
        ("3f", 0x010B, 0, 0x0005, AF | CF),  # AAS
        ("d4 0a", 0x003B, 0, 0x0509, PF),  # AAM
        ("d5 0a", 0x0509, 0, 0x003B, 0),  # AAD
    ],
)
def test_decimal_arithmetic(m: Any, code: str, ax: int, flags: int, result: int, status: int) -> None:
    m.GPR[RAX], m.RFLAGS = ax, 2 | flags
    assert run(m, code) is None
    defined = {"27": CF | PF | AF | ZF | SF, "2f": CF | PF | AF | ZF | SF, "37": CF | AF, "3f": CF | AF}
    assert m.GPR[RAX] == result
    mask = defined.get(code, PF | ZF | SF)
    assert m.RFLAGS & mask == status & mask
