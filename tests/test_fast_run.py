"""Whole runs of the fast engine: programs with known results, budgets, code that changes, paging and EPT."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from integer_cases import flat_machine

from fastmodel import FastEngine, Reason, state
from fastmodel import engine as fast_engine
from fastmodel.backends import NativeBackend, choose
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.memory import RecordingMemory
from refmodel.model import Model

ORIGIN, STACK = 0x10000, 0x20000
RAX, RCX, RSP, RDI = 0, 1, 4, 7
RESUME_FLAG = 1 << 16
MASK = (1 << 64) - 1

ALU = """
again:
    add rax, rcx
    xor rax, rbx
    lea rbx, [rax + rcx*2 + 5]
    sub edx, 3
    dec rcx
    jnz again
    hlt
"""
SIEVE = """
    mov rcx, 0x1000
fill:
    mov byte ptr [rcx + 0x2FFFF], 1
    dec rcx
    jnz fill
    mov rbx, 2
outer:
    cmp byte ptr [rbx + 0x30000], 0
    je next
    inc rax
    lea rdx, [rbx + rbx]
inner:
    cmp rdx, 0x1000
    jae next
    mov byte ptr [rdx + 0x30000], 0
    add rdx, rbx
    jmp inner
next:
    inc rbx
    cmp rbx, 0x1000
    jb outer
    hlt
"""
FIBONACCI = """
    call fib
    hlt
fib:
    cmp ecx, 2
    jb small
    push rcx
    dec ecx
    call fib
    pop rcx
    push rax
    sub ecx, 2
    call fib
    pop rdx
    add rax, rdx
    ret
small:
    mov rax, rcx
    ret
"""
# Adds 1, 2, 3 … to RAX by changing the immediate of its own instruction.
SELF_MODIFYING = """
again:
    lea rbx, [rel there]
    inc byte ptr [rbx + 3]
there:
    add rax, 0
    dec rcx
    jnz again
    hlt
"""


def alu(count: int) -> int:
    rax = rbx = 0
    for n in range(count, 0, -1):
        rax = (rax + n & MASK) ^ rbx
        rbx = rax + 2 * n + 5 & MASK
    return rax


# Program, RCX at the start, and RAX at the end for it.
PROGRAMS = {
    "alu": (ALU, 1000, alu(1000)),
    "sieve": (SIEVE, 0, sum(all(n % d for d in range(2, n)) for n in range(2, 0x1000))),
    "fibonacci": (FIBONACCI, 12, 144),
    "self-modifying": (SELF_MODIFYING, 9, sum(range(1, 10))),
}


def machine(model: Model, text: str, count: int = 0) -> Any:
    """A machine with a program at ORIGIN."""
    m = flat_machine(model)
    m.PHYSICAL.write_bytes(ORIGIN, assemble(text, Encoder(model.program)).code)
    m.GPR[RCX], m.GPR[RSP], m.RIP = count, STACK, ORIGIN
    return m


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_should(model: Model, name: str, backend: str) -> None:
    text, count, expected = PROGRAMS[name]
    m = machine(model, text, count)
    engine = FastEngine(model.program, m, backend)
    engine.run(1 << 40)
    assert engine.reason is Reason.NO_HANDLER
    assert m.PHYSICAL.read_8(m.RIP) == 0xF4
    assert m.GPR[RAX] == expected


def test_code_without_tail_calls_computes_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    portable = NativeBackend(threaded=False)
    monkeypatch.setattr(fast_engine.backends, "choose", lambda _name: portable)
    for text, count, expected in PROGRAMS.values():
        m = machine(model, text, count)
        FastEngine(model.program, m).run(1 << 40)
        assert m.GPR[RAX] == expected


def test_without_llvmlite_the_engine_is_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("llvmlite", "llvmlite.binding", "fastmodel.compiler.build"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("fastmodel.compiler.build")
    assert choose.__wrapped__(None).name == "python"
    with pytest.raises(ImportError):
        choose.__wrapped__("native")


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_run_stops_after_exactly_the_instructions_asked_for(model: Model, name: str, backend: str) -> None:
    text, count, _ = PROGRAMS[name]
    pieces, reference = machine(model, text, count), machine(model, text, count)
    engine = FastEngine(model.program, pieces, backend)
    for steps in (1, 2, 3, 31, 32, 33, 64, 1, 97):
        done = engine.run(steps)
        for _ in range(done):
            model.functions["cycle"](reference)
        assert (pieces.RIP, pieces.GPR, pieces.RFLAGS) == (reference.RIP, reference.GPR, reference.RFLAGS)
        assert pieces.TSC == reference.TSC
        assert done == steps or engine.reason is Reason.NO_HANDLER


def test_the_preemption_timer_limits_a_run(model: Model) -> None:
    m = machine(model, ALU, 1000)
    m.IN_NON_ROOT, m.vmcs.PIN_BASED_CONTROLS, m.PREEMPTION_TIMER_VALUE = True, 1 << 6, 50
    engine = FastEngine(model.program, m)
    assert [engine.run(30), engine.run(30), engine.run(30)] == [30, 20, 0]
    assert m.PREEMPTION_TIMER_VALUE == 0
    assert engine.reason is Reason.UNSUPPORTED_STATE


def test_a_memory_that_is_put_back_learns_of_native_writes(model: Model) -> None:
    memory = RecordingMemory(1 << 20)
    m = model.machine(memory)
    template = machine(model, SIEVE)
    for name in ("CR0", "CR3", "CR4", "EFER", "SEGMENT_RIGHTS", "RIP", "GPR"):
        setattr(m, name, getattr(template, name))
    memory.write_bytes(0, template.PHYSICAL.read_bytes(0, 0x20000))
    before = b"\xaa" * 0x1000
    memory.write_bytes(0x30000, before)
    memory.keep()
    memory.mark()
    engine = FastEngine(model.program, m)
    while engine.run(1 << 20) or engine.reason is not Reason.NO_HANDLER:
        pass
    assert {address for address, _ in memory.changes()} == set(range(0x30000, 0x31000, 8))
    memory.undo()
    assert memory.read_bytes(0x30000, 0x1000) == before


# --- what is kept between two runs ---

COUNT_UP = "again:\n inc rax\n jmp again"
OTHER_TABLES = 0x8000


def start(model: Model, text: str) -> tuple[Any, FastEngine]:
    m = machine(model, text)
    return m, FastEngine(model.program, m)


def patch(model: Model, m: Any, text: str) -> None:
    m.PHYSICAL.write_bytes(ORIGIN, assemble(text, Encoder(model.program)).code)
    m.RIP = ORIGIN


def times_decoded(engine: FastEngine) -> int:
    (block,) = engine._blocks.values()
    return block.get(state.GENERATION) >> 48


def test_decoded_instructions_are_kept(model: Model) -> None:
    m, engine = start(model, COUNT_UP)
    engine.run(1000)
    for _ in range(5):
        model.functions["cycle"](m)
        engine.run(99)
    assert times_decoded(engine) == 0
    assert m.GPR[RAX] == 750


def test_code_that_others_change_between_runs_is_decoded_anew(model: Model) -> None:
    m, engine = start(model, COUNT_UP)
    engine.run(1000)
    patch(model, m, "again:\n dec rax\n jmp again")
    engine.run(1000)
    assert m.GPR[RAX] == 0
    assert times_decoded(engine) == 1


@pytest.mark.parametrize("forget", ["clear", "reset"])
def test_translations_are_dropped_when_the_reference_forgets(model: Model, forget: str) -> None:
    m, engine = start(model, "again:\n mov rax, [0x20000]\n jmp again")
    m.PHYSICAL.write_64(0x20000, 1)
    engine.run(10)
    m.PHYSICAL.write_64(
        0x2000, 0x3000 | 0x27
    )  # 1 GiB → a table of 2 MiB pages, the same linear page elsewhere
    m.PHYSICAL.write_64(0x3000, 0x83 | 0x60)
    m.PHYSICAL.write_64(0x20000, 2)
    if forget == "clear":
        m.cache_translate.clear()
    else:
        kept = m.CR0, m.CR3, m.CR4, m.EFER, list(m.SEGMENT_RIGHTS), m.RIP
        m.reset()
        m.CR0, m.CR3, m.CR4, m.EFER, m.SEGMENT_RIGHTS[:], m.RIP = kept
    m.PHYSICAL.write_64(0x3000, 0)
    assert engine.run(10) == 0
    assert engine.reason is Reason.MEMORY_ACCESS


def test_code_that_moves_is_decoded_anew(model: Model) -> None:
    m, engine = start(model, COUNT_UP)
    engine.run(1000)
    directory, table_ = 0x3000, 0x4000
    m.PHYSICAL.write_64(0x2000, directory | 0x27)
    m.PHYSICAL.write_64(directory, table_ | 0x27)
    m.PHYSICAL.write_64(table_ + 8 * (ORIGIN >> 12), 0x40000 | 0x67)
    m.PHYSICAL.write_bytes(0x40000, assemble("again:\n dec rax\n jmp again", Encoder(model.program)).code)
    m.cache_translate.clear()
    engine.run(1000)
    assert m.GPR[RAX] == 0


def test_address_spaces_share_code_but_not_translations(model: Model) -> None:
    m, engine = start(model, "again:\n inc byte [0x20000]\n jmp again")
    for page, address in ((0, 0x20000), (1, 0x30000)):
        root = OTHER_TABLES + 0x4000 * page
        for n, entry in enumerate((root + 0x1000 | 0x27, root + 0x2000 | 0x27, root + 0x3000 | 0x27)):
            m.PHYSICAL.write_64(root + 0x1000 * n, entry)
        for linear, frame in ((ORIGIN, ORIGIN), (0x20000, address)):
            m.PHYSICAL.write_64(root + 0x3000 + 8 * (linear >> 12), frame | 0x67)
    for round_ in range(1, 4):
        for page, address in ((0, 0x20000), (1, 0x30000)):
            m.CR3 = OTHER_TABLES + 0x4000 * page
            engine.run(20)
            assert m.PHYSICAL.read_8(address) == 10 * round_
    # The second space changes the code that both have decoded, and the first sees it.
    m.PHYSICAL.write_64(OTHER_TABLES + 0x4000 + 0x3000 + 8 * (0x20000 >> 12), ORIGIN | 0x67)
    m.cache_translate.clear()
    assert m.PHYSICAL.read_8(ORIGIN) == 0xFE
    m.PHYSICAL.write_bytes(ORIGIN + 0x100, bytes.fromhex("c6042501000200cc"))  # mov byte [0x20001], 0xcc
    m.RIP = ORIGIN + 0x100
    engine.run(1)
    assert m.PHYSICAL.read_8(ORIGIN + 1) == 0xCC
    m.CR3, m.RIP = OTHER_TABLES, ORIGIN
    m.cache_translate.clear()
    engine.run(1)  # FE CC is DEC AH
    assert m.GPR[RAX] == 0xFF00


def test_many_address_spaces(model: Model) -> None:
    m, engine = start(model, COUNT_UP)
    for number in range(40):
        m.CR3 = m.CR3 & ~0x18 | (number & 3) << 3
        m.EFER ^= (number & 4) << 9
        m.CR0 ^= (number & 8) << 13
        m.CR4 ^= (number & 16) << 17
        assert engine.run(10) == 10
    assert m.GPR[RAX] == 200


@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_repeated_instruction_that_overwrites_itself(model: Model, backend: str) -> None:
    """After one iteration of REP STOSB a NOP stands in its place, which clears RF as any instruction does."""
    rep_stosb, nop = b"\xf3\xaa", 0x90
    for steps in range(1, 5):
        fast, reference = flat_machine(model), flat_machine(model)
        for m in (fast, reference):
            m.PHYSICAL.write_bytes(ORIGIN, rep_stosb + bytes((nop,)) * 6)
            m.RIP, m.GPR[RAX], m.GPR[RCX], m.GPR[RDI], m.RFLAGS = ORIGIN, nop, 4, ORIGIN, 2
        assert FastEngine(model.program, fast, backend).run(steps) == steps
        for _ in range(steps):
            model.functions["cycle"](reference)
        assert (fast.RIP, fast.RFLAGS, fast.GPR[RCX]) == (reference.RIP, reference.RFLAGS, reference.GPR[RCX])
        assert bool(fast.RFLAGS & RESUME_FLAG) == (steps == 1)
