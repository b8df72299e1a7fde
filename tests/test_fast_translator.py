"""The region translator: what is translated does what is interpreted, to the instruction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from integer_cases import CODE, DATA, REGION, STACK, Case, Cases, flat_machine

from fastmodel import FastEngine, Reason, coverage
from fastmodel.compiler.program import instance
from fastmodel.loop import find_trace, known_trace
from fastmodel.memory import read_address_slowly
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.forms import forms
from refmodel.model import Model

pytest.importorskip("llvmlite")
hotness = pytest.importorskip("fastmodel.translator.hotness")
slow = pytest.importorskip("fastmodel.translator.slow")

ORIGIN = CODE
RAX, RCX, RBX, RSP, RDI = 0, 1, 3, 4, 7
REGIONS = (CODE, DATA, STACK)


@pytest.fixture(autouse=True)
def translate_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hotness, "SAMPLE_PERIOD", 150)
    monkeypatch.setattr(hotness, "HOT", 1)


class Pair:
    """An engine that translates beside one that interprets."""

    def __init__(self, model: Model, text: str = "", registers: dict[int, int] | None = None) -> None:
        self.model = model
        self.machines = [flat_machine(model), flat_machine(model)]
        self.translating, self.interpreting = (
            FastEngine(model.program, m, translates=translates)
            for m, translates in zip(self.machines, (True, False), strict=True)
        )
        for m in self.machines:
            m.GPR[RSP] = STACK + REGION // 2
            for number, value in (registers or {}).items():
                m.GPR[number] = value
            m.PHYSICAL.write_bytes(ORIGIN, assemble(text, Encoder(model.program)).code if text else b"")
            m.RIP = ORIGIN

    def run(self, steps: int) -> int:
        """Runs both; they must agree on everything."""
        done = self.translating.run(steps)
        assert self.interpreting.run(steps) == done
        assert self.translating.reason == self.interpreting.reason
        first, second = (observe(m) for m in self.machines)
        assert first == second
        return done

    def regions(self) -> int:
        """How many there are."""
        return sum(len(block.translator._regions) for block in self.translating._blocks.values())


def observe(m: Any) -> dict[str, Any]:
    memory = {region: m.PHYSICAL.read_bytes(region, REGION) for region in REGIONS}
    return {"GPR": list(m.GPR), "RIP": m.RIP, "RFLAGS": m.RFLAGS, "TSC": m.TSC, **memory}


FIBONACCI = """
    call fib
    hlt
fib:
    cmp rdi, 2
    jae recurse
    mov rax, rdi
    ret
recurse:
    push rbx
    push rdi
    dec rdi
    call fib
    mov rbx, rax
    pop rdi
    sub rdi, 2
    call fib
    add rax, rbx
    pop rbx
    ret
"""
FILL = f"""
again:
    mov [rcx*8 + {DATA}], rax
    add al, [rcx + {DATA + 5}]
    adc ah, cl
    xor [rcx + {DATA + 3}], ax
    movsx rbx, byte [rcx + {DATA}]
    shl rbx, cl
    setb bl
    cmovl rax, rbx
    lea rdx, [rax + rbx*4 - 7]
    inc rcx
    and ecx, 127
    jmp again
"""


def test_a_program_with_calls(model: Model) -> None:
    pair = Pair(model, FIBONACCI, {RDI: 15})
    pair.run(1 << 20)
    assert pair.machines[0].GPR[RAX] == 610
    assert pair.regions() > 0


@pytest.mark.parametrize(("text", "registers"), [(FILL, {}), (FIBONACCI, {RDI: 20})])
def test_a_run_stops_after_exactly_the_instructions_asked_for(
    model: Model, text: str, registers: dict[int, int]
) -> None:
    pair = Pair(model, text, registers)
    pair.run(2000)
    assert pair.regions() > 0
    for steps in (*range(1, 70), 97, 1000, 33):
        assert pair.run(steps) == steps


def test_a_fault_within_a_region_leaves_everything_before_it(model: Model) -> None:
    text = "again:\n inc rax\n push rcx\n add rbx, [rdi]\n pop rdx\n add rdi, 8\n jmp again"
    pair = Pair(model, text, {RDI: (1 << 20) - 8 * 300})
    assert pair.run(1 << 20) == 300 * 6 + 2
    assert pair.translating.reason is Reason.MEMORY_ACCESS
    assert pair.regions() > 0
    assert pair.machines[0].RIP == ORIGIN + 4


def test_code_that_changes_itself(model: Model) -> None:
    text = """
    again:
        dec rcx
        test cl, 63
        jne again
        inc byte [rel there + 3]
    there:
        add rax, 1
        test rcx, rcx
        jne again
        hlt
    """
    pair = Pair(model, text, {RCX: 1024})
    while pair.run(700) == 700:
        pass
    assert pair.translating.reason is Reason.NO_HANDLER
    assert pair.machines[0].GPR[RAX] == sum(range(2, 18))


def test_a_store_to_the_code_of_a_region_is_noticed_within_it(model: Model) -> None:
    text = """
    again:
        mov [rdi], al
        inc rbx
        dec rcx
        jne again
        mov rdi, patch + 1
        mov al, 5
        mov ecx, 1
    patch:
        add ebx, 1
        jmp again
    """
    pair = Pair(model, text, {RDI: DATA, RCX: 1000})
    pair.run(3000)
    assert pair.regions() > 0
    for _ in range(3):
        pair.run(1001)


def test_edits_of_page_tables_are_seen_after_an_invalidation(model: Model) -> None:
    """A loop reads a page; the reference, as INVLPG does, forgets translations after the table was edited."""
    pair = Pair(model, f"again:\n add rax, [{DATA}]\n dec rcx\n jmp again")
    for m in pair.machines:
        m.PHYSICAL.write_64(0x2000, 0x3000 | 0x27)  # 1 GiB page → tables
        m.PHYSICAL.write_64(0x3000, 0x4000 | 0x27)
        for page in range(0x40):
            m.PHYSICAL.write_64(0x4000 + 8 * page, page << 12 | 0x67)
        m.PHYSICAL.write_64(DATA, 1)
        m.PHYSICAL.write_64(STACK, 2)
    pair.run(3000)
    assert pair.regions() > 0
    assert pair.machines[0].GPR[RAX] == 1000
    for m in pair.machines:
        m.PHYSICAL.write_64(0x4000 + 8 * (DATA >> 12), STACK | 0x67)
        m.cache_translate.clear()
    pair.run(3000)
    assert pair.machines[0].GPR[RAX] == 3000
    for m in pair.machines:
        m.PHYSICAL.write_64(0x4000 + 8 * (DATA >> 12), 0)
        m.cache_translate.clear()
    assert pair.run(3000) == 0
    assert pair.translating.reason is Reason.MEMORY_ACCESS


# --- every handler -----------------------------------------------------------------------------------

SLOT = 32  # bytes for a case: the instruction, and a jump back to it


def groups_of_cases(model: Model) -> Iterator[list[Case]]:
    """A case of every kind of operands that has a handler, as many at a time as fit into a page."""
    known = coverage(model.program)
    covered = {
        (form.instruction.name, form.widths(), tuple(code.kind for code in form.pattern.operands)): form
        for form in forms(model.program)
        if known[form.instruction.name]
    }
    cases = Cases(Encoder(model.program), random.Random(3))
    drawn = [cases.case(form) for form in covered.values()]
    size = REGION // SLOT // 2
    return (drawn[n : n + size] for n in range(0, len(drawn), size))


def place_case(m: Any, case: Case, address: int) -> None:
    """The instruction, and a jump back to it."""
    jump = b"\xeb" + (-len(case.code) - 2 & 0xFF).to_bytes(1, "little")
    m.PHYSICAL.write_bytes(address, case.code + jump)


def start_case(m: Any, case: Case, address: int) -> None:
    for region in (DATA, STACK):
        m.PHYSICAL.write_bytes(region, case.content)
    m.GPR[:] = case.registers
    m.RIP, m.RFLAGS = address, case.flags


def test_every_handler_does_translated_what_it_does_interpreted(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotness, "SAMPLE_PERIOD", 1 << 40)
    translated = total = 0
    for group in groups_of_cases(model):
        pair = Pair(model)
        addresses = [CODE + SLOT * n for n in range(len(group))]
        for m in pair.machines:
            for case, address in zip(group, addresses, strict=True):
                place_case(m, case, address)
        pair.run(1)
        (block,) = pair.translating._blocks.values()
        for case, address in zip(group, addresses, strict=True):
            for m in pair.machines:
                start_case(m, case, address)
            pair.run(100)
        heads = [known_trace(block.address, address) for address in addresses]
        block.translator.translate([head for head in heads if head])
        left_alone = block.translator.left_alone
        for case, address, head in zip(group, addresses, heads, strict=True):
            for m in pair.machines:
                m.TSC = 0
                start_case(m, case, address)
            try:
                pair.run(70)
            except AssertionError as error:
                raise AssertionError(f"{case.form.instruction.name} {case.code.hex()}") from error
            total += 1
            translated += bool(head) and head not in left_alone
    assert translated > 0.9 * total, (translated, total)


def test_slow_functions_that_look_at_registers_are_not_called_from_regions() -> None:
    assert slow.leaves_registers_alone(instance(read_address_slowly))
    assert not slow.leaves_registers_alone(instance(find_trace)), "reads RIP"
