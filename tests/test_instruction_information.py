"""The instruction-information field of VM exits, bit for bit as the SDM's tables have it.  SDM 3C 28.2.5"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import enter, is_exit, machine, run

from refmodel.model import Model

ALL = (
    1 << 2 | 1 << 11 | 1 << 12 | 1 << 16 | 1 << 20 | 1 << 26
)  # descriptor tables, RDRAND, INVPCID, RDSEED, XSAVES, waits
INVLPG_EXITING, RDTSC_EXITING = 1 << 9, 1 << 12
CS, IA32_XSS = 1, 0xDA0

# Scale, address size (shifted), segment, index and base by their places in the tables.
ADDRESS_16, ADDRESS_32, ADDRESS_64 = 0 << 7, 1 << 7, 2 << 7
REGISTER = 1 << 10
SS, DS, FS = 2 << 15, 3 << 15, 4 << 15
NO_INDEX, NO_BASE = 1 << 22, 1 << 27


def index(number: int, scale: int) -> int:
    """An index register and the logarithm of its scale."""
    return number << 18 | scale


def base(number: int) -> int:
    return number << 23


def reg1(number: int) -> int:
    return number << 3


def reg2(number: int) -> int:
    return number << 28


@pytest.fixture
def m(model: Model) -> Any:
    """A guest of which all instructions that have instruction information exit."""
    guest = enter(model, machine(model), GUEST_CR4=0x42020)
    guest.vmcs.PRIMARY_CONTROLS |= 1 << 31 | INVLPG_EXITING | RDTSC_EXITING
    guest.vmcs.SECONDARY_CONTROLS, guest.vmcs.XSS_EXITING_BITMAP = ALL, 1 << 8
    guest.MSR[IA32_XSS], guest.GPR[0] = 1 << 8, 1 << 8
    return guest


# VMCLEAR with an address of each shape.
SHAPES = {
    "33": ADDRESS_64 | DS | NO_INDEX | base(3),  # [rbx]
    "75 40": ADDRESS_64 | SS | NO_INDEX | base(5),  # [rbp+0x40]
    "34 24": ADDRESS_64 | SS | NO_INDEX | base(4),  # [rsp]
    "34 93": ADDRESS_64 | DS | index(2, 2) | base(3),  # [rbx+rdx*4]
    "74 cd 08": ADDRESS_64 | SS | index(1, 3) | base(5),  # [rbp+rcx*8+8]
    "34 4d 00 00 01 00": ADDRESS_64 | DS | index(1, 1) | NO_BASE,  # [rcx*2+0x10000]
    "34 25 00 00 01 00": ADDRESS_64 | DS | NO_INDEX | NO_BASE,  # [0x10000]
    "35 00 10 00 00": ADDRESS_64 | DS | NO_INDEX | NO_BASE,  # [rip+0x1000]
}


@pytest.mark.parametrize(("shape", "information"), SHAPES.items())
def test_shapes_of_an_address(m: Any, shape: str, information: int) -> None:
    """Of VMCLEAR, VMPTRLD, VMPTRST and VMXON.  SDM 3C table 28-13"""
    second = int(shape[:2], 16)
    for code, reason in (("66 0f c7", 19), ("0f c7", 21), ("f3 0f c7", 27)):
        outcome = run(m, f"{code} {shape}")
        assert is_exit(outcome, reason)
        assert outcome.instruction_information == information
    store = f"{second | 8:02x}{shape[2:]}"  # VMPTRST is /7, the others are /6
    assert run(m, f"0f c7 {store}").instruction_information == information


@pytest.mark.parametrize(
    ("code", "information"),
    [
        ("66 43 0f c7 34 6f", ADDRESS_64 | DS | index(13, 1) | base(15)),  # vmclear [r15+r13*2]
        (
            "66 42 0f c7 34 23",
            ADDRESS_64 | DS | index(12, 0) | base(3),
        ),  # [rbx+r12]: R12 is an index, RSP is none
        ("66 41 0f c7 34 24", ADDRESS_64 | DS | NO_INDEX | base(12)),  # [r12]: not on the stack
        ("67 66 0f c7 33", ADDRESS_32 | DS | NO_INDEX | base(3)),  # [ebx]
        ("64 66 0f c7 33", ADDRESS_64 | FS | NO_INDEX | base(3)),  # fs:[rbx]
        (
            "2e 66 0f c7 33",
            ADDRESS_64 | DS | NO_INDEX | base(3),
        ),  # a prefix for CS means nothing in 64-bit mode
    ],
)
def test_prefixes_of_an_address(m: Any, code: str, information: int) -> None:
    assert run(m, code).instruction_information == information


def test_relative_to_rip_the_qualification_is_the_address(m: Any) -> None:
    """What a VMM adds the registers to, and there are none.  SDM 3C 28.2.1"""
    assert run(m, "66 0f c7 35 f9 ff ff ff").qualification == m.RIP + 1


@pytest.mark.parametrize(
    ("code", "reason", "information"),
    [
        ("44 0f 78 c9", 23, REGISTER | reg1(1) | reg2(9)),  # vmread rcx, r9
        ("41 0f 79 c1", 25, REGISTER | reg1(9) | reg2(0)),  # vmwrite rax, r9
        (
            "44 0f 78 4c 8b 10",
            23,
            ADDRESS_64 | DS | index(1, 2) | base(3) | reg2(9),
        ),  # vmread [rbx+rcx*4+16], r9
        ("0f 79 13", 25, ADDRESS_64 | DS | NO_INDEX | base(3) | reg2(2)),  # vmwrite rdx, [rbx]
        ("66 0f 38 80 13", 50, ADDRESS_64 | DS | NO_INDEX | base(3) | reg2(2)),  # invept rdx, [rbx]
        ("66 44 0f 38 81 1c 24", 53, ADDRESS_64 | SS | NO_INDEX | base(4) | reg2(11)),  # invvpid r11, [rsp]
        (
            "66 0f 38 82 0c 53",
            58,
            ADDRESS_64 | DS | index(2, 1) | base(3) | reg2(1),
        ),  # invpcid rcx, [rbx+rdx*2]
        ("0f c7 2c 4b", 63, ADDRESS_64 | DS | index(1, 1) | base(3)),  # xsaves [rbx+rcx*2]
        ("0f c7 5d 00", 64, ADDRESS_64 | SS | NO_INDEX | base(5)),  # xrstors [rbp]
        ("0f 00 04 4b", 47, ADDRESS_64 | DS | index(1, 1) | base(3)),  # sldt [rbx+rcx*2]
        ("0f 00 0b", 47, ADDRESS_64 | DS | NO_INDEX | base(3) | 1 << 28),  # str [rbx]
        ("41 0f 00 d1", 47, REGISTER | reg1(9) | 2 << 28),  # lldt r9w
        ("0f 00 1d 00 00 00 00", 47, ADDRESS_64 | DS | NO_INDEX | NO_BASE | 3 << 28),  # ltr [rip]
        ("f2 41 0f ae f1", 67, reg1(9) | 1 << 11),  # umwait r9d
        ("66 0f ae f3", 68, reg1(3) | 1 << 11),  # tpause ebx
    ],
)
def test_second_operands_and_identities(m: Any, code: str, reason: int, information: int) -> None:
    """SDM 3C tables 28-9, 28-11, 28-12, 28-13, 28-14"""
    outcome = run(m, code)
    assert is_exit(outcome, reason)
    assert outcome.instruction_information == information


@pytest.mark.parametrize(
    ("code", "information"),
    [
        ("67 0f 01 00", ADDRESS_16 | 1 << 11 | DS | index(6, 0) | base(3)),  # sgdt [bx+si]
        ("67 0f 01 4b 08", ADDRESS_16 | 1 << 11 | SS | index(7, 0) | base(5) | 1 << 28),  # sidt [bp+di+8]
        ("67 0f 01 14", ADDRESS_16 | 1 << 11 | DS | NO_INDEX | base(6) | 2 << 28),  # lgdt [si]
        ("67 0f 01 1e 00 70", ADDRESS_16 | 1 << 11 | DS | NO_INDEX | NO_BASE | 3 << 28),  # lidt [0x7000]
        ("66 0f 01 04 8b", ADDRESS_32 | DS | index(1, 2) | base(3)),  # sgdt [ebx+ecx*4], operands of 16 bits
        ("0f 01 0d 00 70 00 00", ADDRESS_32 | 1 << 11 | DS | NO_INDEX | NO_BASE | 1 << 28),  # sidt [0x7000]
    ],
)
def test_descriptor_tables_in_compatibility_mode(m: Any, code: str, information: int) -> None:
    """Where addresses of 16 bits have pairs of registers, and the operand size is defined.  SDM 3C table 28-10"""
    m.SEGMENT_RIGHTS[CS] = 0xC09B
    outcome = run(m, code)
    assert is_exit(outcome, 46)
    assert outcome.instruction_information == information
