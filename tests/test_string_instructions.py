"""What Unicorn cannot show of string instructions: one iteration at a time, and what may come in between."""

from __future__ import annotations

from typing import Any

import pytest
from integer_cases import DATA, ORIGIN, flat_machine

import grammar
from refmodel.model import build
from refmodel.runtime import Abort

RAX, RCX, RDX, RSI, RDI = 0, 1, 2, 6, 7
SOURCE, DESTINATION = DATA, DATA + 0x100
RESUME = 1 << 16
MODEL = build(grammar.load())


@pytest.fixture
def machine() -> Any:
    m = flat_machine(MODEL)
    m.RIP, m.RFLAGS = ORIGIN, 2
    m.GPR[RCX], m.GPR[RSI], m.GPR[RDI] = 3, SOURCE, DESTINATION
    m.PHYSICAL.write_bytes(SOURCE, b"abcabd")
    return m


def put(m: Any, code: str) -> None:
    m.PHYSICAL.write_bytes(ORIGIN, bytes.fromhex(code) + b"\x90")


def test_one_iteration_a_cycle(machine: Any) -> None:
    put(machine, "f3 a4")
    seen = []
    for _ in range(3):
        MODEL.functions["cycle"](machine)
        seen.append((machine.RIP - ORIGIN, machine.GPR[RCX], bool(machine.RFLAGS & RESUME)))
    assert seen == [(0, 2, True), (0, 1, True), (2, 0, False)]
    assert machine.PHYSICAL.read_bytes(DESTINATION, 4) == b"abc\0"
    assert (machine.GPR[RSI], machine.GPR[RDI]) == (SOURCE + 3, DESTINATION + 3)


def test_a_fault_keeps_the_iterations_done(machine: Any) -> None:
    put(machine, "f3 a5")  # rep movsd
    machine.GPR[RDI] = (1 << 30) - 8  # two doublewords before the end of what is mapped
    machine.execute()
    machine.execute()
    with pytest.raises(Abort) as fault:
        machine.execute()
    assert fault.value.value.vector == 14
    assert (machine.RIP, machine.GPR[RCX]) == (ORIGIN, 1)
    assert (machine.GPR[RSI], machine.GPR[RDI]) == (SOURCE + 8, 1 << 30)


@pytest.mark.parametrize(("code", "left"), [("f3 a6", 0), ("f2 a6", 2)])
def test_repe_stops_at_a_difference_and_repne_at_equality(machine: Any, code: str, left: int) -> None:
    put(machine, code)
    machine.GPR[RDI] = SOURCE + 3  # "abc" against "abd"
    while machine.RIP == ORIGIN:
        machine.execute()
    assert machine.GPR[RCX] == left


def test_no_iterations_change_nothing(machine: Any) -> None:
    put(machine, "67 f3 a6")
    machine.GPR[RCX] = 1 << 32  # ECX is 0
    before = list(machine.GPR), machine.RFLAGS
    machine.execute()
    assert (list(machine.GPR), machine.RFLAGS) == before
    assert machine.RIP == ORIGIN + 3


def test_direction_and_address_size(machine: Any) -> None:
    put(machine, "67 ab")  # stosd [edi]
    machine.GPR[RDI] |= 0xFFFF << 32
    machine.GPR[RAX], machine.RFLAGS = 0x64636261, 2 | 1 << 10
    machine.execute()
    assert machine.PHYSICAL.read_bytes(DESTINATION, 4) == b"abcd"
    assert machine.GPR[RDI] == DESTINATION - 4


def test_strings_of_ports(machine: Any) -> None:
    put(machine, "f3 6e")  # rep outsb
    machine.GPR[RDX] = 0x80
    while machine.RIP == ORIGIN:
        machine.execute()
    assert machine.PORT[0x80] == ord("c")


def test_compare_exchange_of_16_bytes(machine: Any) -> None:
    put(machine, "48 0f c7 0e")  # cmpxchg16b [rsi]
    machine.PHYSICAL.write_bytes(SOURCE, bytes(range(16)))
    words = [int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8)]
    machine.execute()
    assert [machine.GPR[RAX], machine.GPR[RDX]] == words
    assert not machine.RFLAGS & 0x40
    machine.RIP, machine.GPR[RCX], machine.GPR[3] = ORIGIN, 5, 6
    machine.execute()
    assert machine.PHYSICAL.read(SOURCE, 16) == 5 << 64 | 6
    assert machine.RFLAGS & 0x40
    machine.RIP, machine.GPR[RSI] = ORIGIN, SOURCE + 8
    with pytest.raises(Abort) as fault:
        machine.execute()
    assert fault.value.value.vector == 13
