"""The fast model's handlers against the reference, on random cases of every form that has one.

(The reference itself is compared with Unicorn in test_unicorn.py.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from integer_cases import CODE, DATA, ORIGIN, REGION, STACK, Case, Cases, flat_machine

from fastmodel import FastEngine, Reason, coverage, groups
from fastmodel.handlers import HANDLERS
from refmodel.encoder import Encoder
from refmodel.forms import Form, forms
from refmodel.model import Model

# The integer instructions that the fast model is meant to know; families by their names in the specification.
INSTRUCTIONS = [
    "MOV",
    "MOVZX",
    "MOVSX",
    "MOVSXD",
    "LEA",
    "XCHG",
    "ADD",
    "OR",
    "ADC",
    "SBB",
    "AND",
    "SUB",
    "XOR",
    "CMP",
    "TEST",
    "INC",
    "DEC",
    "NEG",
    "NOT",
    "SHL",
    "SHR",
    "SAR",
    "PUSH",
    "POP",
    "PUSHFQ",
    "POPFQ",
    "CALL",
    "RET",
    "JMP",
    "JE",
    "JG",
    "SETNE",
    "SETP",
    "CMOVB",
    "CMOVLE",
    "NOP",
    "CWDE",
    "CDQE",
    "CDQ",
    "CQO",
]
REGIONS = (CODE, DATA, STACK)
CASES_PER_FORM = {"native": 5, "python": 1}
# What may be refused in these cases: single flags of POPF, POP to memory, and operands that reach into another page.
REFUSALS = {Reason.SYSTEM_FLAGS, Reason.NO_HANDLER, Reason.PAGE_CROSSING}


class Pair:
    """A machine with the fast engine beside one with the reference."""

    def __init__(self, model: Model, backend: str) -> None:
        self.model = model
        self.fast, self.reference = flat_machine(model), flat_machine(model)
        self.engine = FastEngine(model.program, self.fast, backend)

    def set_up(self, case: Case) -> None:
        """Puts both machines into the state of a case."""
        for m in (self.fast, self.reference):
            for region in REGIONS:
                m.PHYSICAL.write_bytes(region, case.content)
            m.PHYSICAL.write_bytes(ORIGIN, case.code)
            m.GPR[:] = case.registers
            m.RIP, m.RFLAGS = ORIGIN, case.flags

    def step(self) -> bool:
        """One instruction on both; false if the engine refused it, and then nothing may have changed."""
        before = observe(self.fast)
        if not self.engine.execute_one():
            assert observe(self.fast) == before
            return False
        self.model.functions["cycle"](self.reference)
        assert observe(self.fast) == observe(self.reference)
        return True


def observe(m: Any) -> dict[str, Any]:
    """All that an integer instruction may change."""
    memory = {region: m.PHYSICAL.read_bytes(region, REGION) for region in REGIONS}
    return {"GPR": list(m.GPR), "RIP": m.RIP, "RFLAGS": m.RFLAGS, "TSC": m.TSC, **memory}


def covered_forms(model: Model) -> Iterator[Form]:
    """The forms of the instructions that have a handler."""
    known = coverage(model.program)
    return (form for form in forms(model.program) if known[form.instruction.name])


@pytest.mark.parametrize("backend", CASES_PER_FORM)
def test_handlers_do_what_the_reference_does(model: Model, backend: str) -> None:
    pair = Pair(model, backend)
    cases = Cases(Encoder(model.program), random.Random(11))
    executed: set[str] = set()
    for form in covered_forms(model):
        for _ in range(CASES_PER_FORM[backend]):
            case = cases.case(form)
            pair.set_up(case)
            try:
                if pair.step():
                    executed.add(form.instruction.name)
                else:
                    assert pair.engine.reason in REFUSALS
                    pair.reference.TSC = pair.fast.TSC
            except AssertionError as error:
                raise AssertionError(f"{form.instruction.name} {case.code.hex()}") from error
    if backend == "native":
        assert {name for name, is_covered in coverage(model.program).items() if is_covered} <= executed


def test_the_integer_instructions_have_handlers(model: Model) -> None:
    known = coverage(model.program)
    assert [name for name in INSTRUCTIONS if not known[name]] == []
    assert not known["CPUID"]


def test_every_handler_is_the_handler_of_some_encoding(model: Model) -> None:
    entries = (e for group in groups.groups(model.program).values() for e in group.entries)
    used = {entry.handler.name for entry in entries if entry is not None}
    assert [handler.name for handler in HANDLERS if handler.name not in used] == []


@pytest.mark.parametrize(
    "code",
    [
        "f001c0",  # lock add eax, eax: undefined
        "f08b00",  # lock mov eax, [rax]: undefined
        "f390",  # pause
        "678b00",  # mov eax, [eax]
        "658b00",  # mov eax, gs:[rax]
        "4190",  # xchg eax, r8d: not nop
        "8d c0",  # lea of a register: undefined
        "66490faefd",  # sfence with the prefix 66: undefined, with REX.W too
        "0f0b",  # ud2
        "f4",  # hlt
        "9d",  # popfq of flags with TF
        "66" * 12 + "0100",  # 14 bytes, but more prefixes than are looked at
        "ffe0",  # jmp rax, not canonical
        "c3",  # ret, not canonical
        "66480faeff",  # sfence with 66 and REX.W: undefined
        "8b442401",  # mov eax, [rsp + 1]: crosses a page
    ],
)
@pytest.mark.parametrize("backend", ["native", "python"])
def test_unusual_instructions_are_left_to_the_reference(model: Model, backend: str, code: str) -> None:
    m = flat_machine(model)
    engine = FastEngine(model.program, m, backend)
    m.RIP, m.RFLAGS, m.GPR[0] = ORIGIN, 2, 1 << 48 | DATA
    m.GPR[4] = STACK + REGION - 4 if code.startswith("8b44") else STACK
    m.PHYSICAL.write_64(STACK, 0xFFFF << 40 | 0x102)
    m.PHYSICAL.write_bytes(ORIGIN, bytes.fromhex(code))
    before = observe(m)
    assert engine.run(10) == 0
    assert engine.reason is not Reason.BUDGET
    assert observe(m) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RFLAGS", 0x102),  # TF
        ("DR7", 0x401),
        ("INTERRUPTIBILITY", 1),
        ("ACTIVITY_STATE", 1),
        ("EFER", 0),
    ],
)
def test_states_in_which_more_than_the_instruction_happens_are_refused(
    model: Model, name: str, value: int
) -> None:
    m = flat_machine(model)
    engine = FastEngine(model.program, m)
    m.RIP = ORIGIN
    m.PHYSICAL.write_bytes(ORIGIN, b"\x90")
    assert engine.execute_one()
    m.RIP = ORIGIN
    setattr(m, name, value)
    assert not engine.execute_one()
    assert engine.reason is Reason.UNSUPPORTED_STATE


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize(
    ("code", "iterations"),
    [
        ("f3a4", 50),  # rep movsb
        ("f348ab", 50),  # rep stosq
        ("f3ac", 50),  # rep lodsb
        ("f2ae", 20),  # repne scasb finds 0
        ("f3a6", 8),  # repe cmpsb finds a difference
    ],
)
def test_repeated_strings_stop_between_iterations(
    model: Model, backend: str, code: str, iterations: int
) -> None:
    """A run that ends in the middle goes on in the next one; both are what single steps of the reference do."""
    machines = fast, reference = flat_machine(model), flat_machine(model)
    for m in machines:
        m.RIP, m.RFLAGS = ORIGIN, 2
        m.GPR[1], m.GPR[6], m.GPR[7] = 50, DATA, DATA + 0x100
        m.PHYSICAL.write_bytes(ORIGIN, bytes.fromhex(code) + b"\x90" * 64)
        m.PHYSICAL.write_bytes(DATA, b"\xff" * 7 + b"\x0f" * 93)
        m.PHYSICAL.write_bytes(DATA + 0x100, b"\xff" * 19 + b"\x00" * 81)
    engine = FastEngine(model.program, fast, backend)
    done = 0
    for steps in (3, 1, 11, 40):
        assert engine.run(steps) == steps
        for _ in range(steps):
            model.functions["cycle"](reference)
        assert observe(fast) == observe(reference)
        done += steps
        assert (fast.RFLAGS >> 16 & 1, fast.RIP == ORIGIN) == (done < iterations,) * 2


@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_branch_to_the_last_address_stops_there(model: Model, backend: str) -> None:
    m = flat_machine(model)
    m.RIP, m.RFLAGS, m.GPR[0] = ORIGIN, 2, (1 << 64) - 1
    m.PHYSICAL.write_bytes(ORIGIN, bytes.fromhex("ffe0"))  # jmp rax
    engine = FastEngine(model.program, m, backend)
    assert engine.run(40) == 1
    assert (m.RIP, engine.reason) == ((1 << 64) - 1, Reason.MEMORY_ACCESS)
