"""The integer instructions of the reference against Unicorn, an emulator that shares nothing with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from integer_cases import CODE, DATA, ORIGIN, REGION, STACK, Case, Cases, flat_machine

import grammar
from checks.fuzz.undefined import inverted
from grammar import ir
from refmodel.encoder import Encoder
from refmodel.forms import Form, forms
from refmodel.model import build
from refmodel.operands import Memory
from refmodel.runtime import Abort

unicorn = pytest.importorskip("unicorn")
x86 = pytest.importorskip("unicorn.x86_const")

REGISTERS = (
    "RAX",
    "RCX",
    "RDX",
    "RBX",
    "RSP",
    "RBP",
    "RSI",
    "RDI",
    *(f"R{number}" for number in range(8, 16)),
)
GPRS = [getattr(x86, f"UC_X86_REG_{name}") for name in REGISTERS]
FILES = (
    "data_movement",
    "arithmetic",
    "multiplication",
    "logic",
    "shift",
    "rotate",
    "conditional",
    "flag_control",
    "stack",
    "string",
    "control_transfer",
)
RESUME = 1 << 16  # RFLAGS.RF
Outcome = dict[str, int | bytes]


@pytest.fixture(scope="module")
def program() -> ir.Program:
    return grammar.load()


@pytest.fixture(scope="module")
def machines(program: ir.Program) -> tuple[Any, Any]:
    """The reference, and the reference with other undefined values."""
    return flat_machine(build(program)), flat_machine(build(inverted(program)))


def run_reference(m: Any, case: Case) -> Outcome:
    for number, value in enumerate(case.registers):
        m.GPR[number] = value
    m.RIP, m.RFLAGS = ORIGIN, case.flags
    m.PHYSICAL.write_bytes(ORIGIN, case.code.ljust(16, b"\xcc"))
    m.PHYSICAL.write_bytes(DATA, case.content)
    m.PHYSICAL.write_bytes(STACK, case.content)
    try:
        m.execute()
        while case.repeats and m.RFLAGS & RESUME:  # an iteration of REP that is not the last
            m.RFLAGS &= ~RESUME
            m.execute()
    except Abort as abort:
        return {"vector": abort.value.vector}
    return outcome([m.GPR[number] for number in range(16)], m.RIP, m.RFLAGS, m.PHYSICAL.read_bytes)


def outcome(registers: list[int], rip: int, flags: int, read: Any) -> Outcome:
    state: Outcome = {f"R{number}": value for number, value in enumerate(registers)}
    return {
        **state,
        "RIP": rip,
        "RFLAGS": flags,
        "data": bytes(read(DATA, REGION)),
        "stack": bytes(read(STACK, REGION)),
    }


class Oracle:
    """Unicorn with the three regions mapped."""

    def __init__(self) -> None:
        self.vectors: list[int] = []
        self.restart()

    def restart(self) -> None:
        """A new Unicorn: one that saw a fault takes the next for a double fault."""
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        for region in (CODE, DATA, STACK):
            self.uc.mem_map(region, 2 * REGION)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)

    def _interrupt(self, uc: Any, number: int, _data: object) -> None:
        self.vectors.append(number)
        uc.emu_stop()

    def run(self, case: Case) -> Outcome:
        uc = self.uc
        self.vectors.clear()
        for register, value in zip(GPRS, case.registers, strict=True):
            uc.reg_write(register, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, case.flags)
        uc.mem_write(ORIGIN, case.code.ljust(16, b"\xcc"))
        uc.mem_write(DATA, case.content)
        uc.mem_write(STACK, case.content)
        uc.ctl_remove_cache(ORIGIN, ORIGIN + 16)
        if case.repeats:
            uc.emu_start(ORIGIN, ORIGIN + len(case.code))
        else:
            uc.emu_start(ORIGIN, 0, count=1)
        if self.vectors:
            self.restart()
            return {"vector": self.vectors[0]}
        registers = [uc.reg_read(register) for register in GPRS]
        return outcome(
            registers, uc.reg_read(x86.UC_X86_REG_RIP), uc.reg_read(x86.UC_X86_REG_EFLAGS), uc.mem_read
        )


def integer_forms(program: ir.Program) -> Iterator[Form]:
    files = {f"spec/instructions/{name}.isa" for name in FILES}
    return (form for form in forms(program) if form.instruction.span.file in files)


def is_wrong_in_unicorn(case: Case) -> bool:
    """Unicorn knows no TEST /1 and few of the reserved NOPs, takes SPL for AH in LAHF with REX, reads the size in
    RET as signed, forgets the immediate of SHLD and SHRD in RIP-relative addresses, and zero-extends what CMPXCHG
    does not write. Its processor has no SMAP.
    """
    match case.form.instruction.name:
        case "CLAC" | "STAC":
            return True
        case "NOP_OPERAND":
            return case.form.pattern.row.opcode[-1].value != 0x1F
        case "TEST":
            return case.form.pattern.modrm == 1
        case "LAHF" | "SAHF":
            return len(case.code) > 1
        case "RET_RELEASE":
            return case.code[-1] >= 0x80
        case "CMPXCHG":
            return case.form.size == 32
        case "SHLD" | "SHRD":
            return any(isinstance(o, Memory) and o.relative for o in case.operands.values())
    return False


def differences(expected: Outcome, found: Outcome, other: Outcome) -> dict[str, tuple[Any, Any]]:
    """Where Unicorn (`expected`) and the reference differ, apart from what `other` shows to be undefined."""
    result = {}
    for key in expected.keys() | found.keys():
        a, b, c = expected.get(key), found.get(key), other.get(key)
        if key == "RFLAGS" and isinstance(a, int) and isinstance(b, int) and isinstance(c, int):
            defined = ~(b ^ c) & ~0x200  # Unicorn always sets IF
            a, b, c = a & defined, b & defined, c & defined
        if a != b and b == c:
            result[key] = (a, b)
    return result


def test_every_form_agrees(program: ir.Program, machines: tuple[Any, Any]) -> None:
    cases, oracle = Cases(Encoder(program)), Oracle()
    wrong = []
    for form in integer_forms(program):
        for case in (cases.case(form) for _ in range(6)):
            if is_wrong_in_unicorn(case):
                continue
            found, other = (run_reference(machine, case) for machine in machines)
            if different := differences(oracle.run(case), found, other):
                wrong.append((form.instruction.name, case.code.hex(" "), different))
    assert not wrong
