"""Facts of the integer instructions that random comparison meets seldom: faults, privilege, encodings."""

from __future__ import annotations

from typing import Any

import pytest
from integer_cases import DATA, ORIGIN, STACK, flat_machine

from refmodel.model import Model
from refmodel.runtime import Abort

RAX, RCX, RSP, R8 = 0, 1, 4, 8
UD, GP, SS, PF = 6, 13, 12, 14
NOT_CANONICAL = 1 << 47
TOP = STACK + 0x800


@pytest.fixture
def m(model: Model) -> Any:
    machine = flat_machine(model)
    machine.GPR[RSP], machine.RIP = TOP, ORIGIN
    return machine


def run(m: Any, code: str) -> int | None:
    """Runs one instruction, given in hexadecimal; the vector of its fault, or None."""
    m.PHYSICAL.write_bytes(ORIGIN, bytes.fromhex(code).ljust(16, b"\xcc"))
    m.RIP = ORIGIN
    try:
        m.execute()
    except Abort as abort:
        vector: int = abort.value.vector
        return vector
    return None


@pytest.mark.parametrize(
    "code", ["06", "82 00 00", "9a", "ea", "ce", "d6", "fe d0", "ff f8", "8d c0", "0f ba c0 00"]
)
def test_undefined_opcodes(m: Any, code: str) -> None:
    assert run(m, code) == UD


@pytest.mark.parametrize("code", ["f0 01 c8", "f0 39 08", "f0 89 08", "f0 3b 08", "f0 0f ba 20 01"])
def test_lock_needs_a_memory_destination_of_a_lockable_instruction(m: Any, code: str) -> None:
    m.GPR[RAX] = DATA
    assert run(m, code) == UD


def test_lock_is_accepted(m: Any) -> None:
    m.GPR[RAX], m.GPR[RCX] = DATA, 5
    m.PHYSICAL.write_64(DATA, 7)
    assert run(m, "f0 48 01 08") is None
    assert m.PHYSICAL.read_64(DATA) == 12


def test_90_is_nop_but_with_rex_b_it_is_xchg(m: Any) -> None:
    m.GPR[RAX], m.GPR[R8] = 0x1_0000_0001, 2
    assert run(m, "90") is None
    assert m.GPR[RAX] == 0x1_0000_0001
    assert run(m, "49 90") is None
    assert (m.GPR[RAX], m.GPR[R8]) == (2, 0x1_0000_0001)


@pytest.mark.parametrize("code", ["ff e0", "ff d0", "50 c3"])
def test_branch_to_a_noncanonical_address_changes_nothing(m: Any, code: str) -> None:
    """SDM 2A "CALL", "JMP", 2B "RET": #GP(0), the branch being the faulting instruction."""
    m.GPR[RAX] = NOT_CANONICAL
    if code == "50 c3":
        run(m, "50")
        code = "c3"
    before = m.GPR[RSP]
    m.PHYSICAL.write_64(TOP - 16, 0x1234)
    assert run(m, code) == GP
    assert (m.RIP, m.GPR[RSP]) == (ORIGIN, before)
    assert m.PHYSICAL.read_64(TOP - 16) == 0x1234


@pytest.mark.parametrize(("code", "vector"), [("50", SS), ("e8 00 00 00 00", SS), ("58", SS), ("8f 00", GP)])
def test_a_fault_leaves_the_stack_pointer(m: Any, code: str, vector: int) -> None:
    m.GPR[RAX] = NOT_CANONICAL
    m.GPR[RSP] = NOT_CANONICAL + 64 if vector == SS else TOP
    before = m.GPR[RSP]
    assert run(m, code) == vector
    assert m.GPR[RSP] == before


def test_pop_addresses_with_the_new_stack_pointer(m: Any) -> None:
    """SDM 2B "POP": an address with RSP as base is computed after RSP was incremented."""
    m.PHYSICAL.write_64(TOP, 0x1122334455667788)
    assert run(m, "8f 44 24 08") is None  # pop qword [rsp + 8]
    assert m.GPR[RSP] == TOP + 8
    assert m.PHYSICAL.read_64(TOP + 16) == 0x1122334455667788


def test_push_and_pop_of_the_stack_pointer(m: Any) -> None:
    assert run(m, "54") is None
    assert (m.GPR[RSP], m.PHYSICAL.read_64(TOP - 8)) == (TOP - 8, TOP)
    m.PHYSICAL.write_64(TOP - 8, 0x4242)
    assert run(m, "5c") is None
    assert m.GPR[RSP] == 0x4242


IF, IOPL, RF, VM, AC, VIF, VIP, ID = 0x200, 0x3000, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
FREE = 0x4DD5 | AC | ID  # status, TF, DF, NT, AC, ID


@pytest.mark.parametrize(
    ("cpl", "flags", "expected"),
    [
        (0, 2, 2 | FREE | IF | IOPL),
        (3, 2, 2 | FREE),
        (3, 2 | IOPL, 2 | FREE | IF | IOPL),
        (0, 2 | VIF | RF, 2 | FREE | IF | IOPL | VIF),
    ],
)
def test_popfq_changes_what_the_privilege_allows(model: Model, cpl: int, flags: int, expected: int) -> None:
    """SDM 2B "POPF/POPFD/POPFQ"."""
    machine = flat_machine(model, cpl)
    machine.GPR[RSP], machine.RFLAGS = TOP, flags
    machine.PHYSICAL.write_64(TOP, (1 << 64) - 1)
    assert run(machine, "9d") is None
    assert expected == machine.RFLAGS


def test_pushfq_hides_rf_and_vm(m: Any) -> None:
    m.RFLAGS = 2 | RF | VM | AC | IF
    assert run(m, "9c") is None
    assert m.PHYSICAL.read_64(TOP - 8) == 2 | AC | IF


def test_a_false_conditional_move_still_reads_and_zero_extends(m: Any) -> None:
    m.GPR[RAX], m.GPR[RCX], m.RFLAGS = 0x1_0000_0001, NOT_CANONICAL, 2
    assert run(m, "0f 44 c1") is None  # cmovz eax, ecx
    assert m.GPR[RAX] == 1
    assert run(m, "0f 44 01") == GP  # cmovz eax, [rcx]


def test_comparing_does_not_write(m: Any) -> None:
    """CMP and TEST of a read-only page at CPL 0 with CR0.WP; ADD of it faults."""
    m.PHYSICAL.write_64(0x2000, 0xE5)  # the 1 GiB page, no longer writable
    m.GPR[RAX] = DATA
    assert run(m, "48 39 08") is None
    assert run(m, "48 85 08") is None
    assert run(m, "48 01 08") == PF
