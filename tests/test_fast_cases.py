"""Many short runs in one call: each case against the reference, and memory and machine as they were before."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest
from integer_cases import CODE, DATA, ORIGIN, REGION, STACK, Case, Cases, flat_machine

from fastmodel import FastEngine, Reason, coverage
from fastmodel.rows import (
    MOST_WORDS,
    ROW_COUNT,
    ROW_GPR,
    ROW_LIST,
    ROW_REASON,
    ROW_RFLAGS,
    ROW_RIP,
    ROW_STEPS,
    ROW_WORDS,
)
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.forms import forms
from refmodel.memory import RecordingMemory
from refmodel.model import Model

BACKENDS = {"native": 400, "python": 40}  # and how many cases
REFUSALS = {Reason.SYSTEM_FLAGS, Reason.NO_HANDLER, Reason.PAGE_CROSSING, Reason.BAD_TARGET}


def row(
    code: bytes, registers: list[int], flags: int = 2, steps: int = 1, words: tuple[tuple[int, int], ...] = ()
) -> list[int]:
    """A row with code at ORIGIN."""
    padded = code + b"\x90" * (-len(code) % 8)
    listed = [
        (ORIGIN + n, int.from_bytes(padded[n : n + 8], "little")) for n in range(0, len(padded), 8)
    ] + list(words)
    found = [0] * ROW_WORDS
    found[ROW_GPR : ROW_GPR + 16] = registers
    found[ROW_RIP], found[ROW_RFLAGS], found[ROW_STEPS], found[ROW_COUNT] = ORIGIN, flags, steps, len(listed)
    found[ROW_LIST : ROW_LIST + 2 * len(listed)] = [number for pair in listed for number in pair]
    return found


def reported(found: list[int]) -> dict[int, int]:
    """The words of memory in a row."""
    pairs = found[ROW_LIST : ROW_LIST + 2 * found[ROW_COUNT]]
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def run(model: Model, backend: str, rows: list[list[int]], m: Any = None) -> list[list[int]]:
    """The rows after a run on a machine, which must be as before."""
    m = m or flat_machine(model)
    engine = FastEngine(model.program, m, backend)
    before = m.PHYSICAL.read_bytes(0, m.PHYSICAL.size), list(m.GPR), m.RIP, m.TSC
    buffer = array("Q", [word for each in rows for word in each])
    engine.run_cases(buffer)
    assert (m.PHYSICAL.read_bytes(0, m.PHYSICAL.size), list(m.GPR), m.RIP, m.TSC) == before
    words = buffer.tolist()
    return [words[n : n + ROW_WORDS] for n in range(0, len(words), ROW_WORDS)]


def assembled(model: Model, text: str) -> bytes:
    return assemble(text, Encoder(model.program)).code


@pytest.mark.parametrize("backend", BACKENDS)
def test_cases_do_what_the_reference_does(model: Model, backend: str) -> None:
    drawn = random_cases(model, BACKENDS[backend])
    fast = flat_machine(model)
    reference = model.machine(RecordingMemory(fast.PHYSICAL.size))
    for name in ("CR0", "CR3", "CR4", "EFER", "SEGMENT_RIGHTS"):
        setattr(reference, name, getattr(fast, name))
    for region in (CODE, DATA, STACK):
        fast.PHYSICAL.write_bytes(region, drawn[0].content)
    reference.PHYSICAL.write_bytes(0, fast.PHYSICAL.read_bytes(0, fast.PHYSICAL.size))
    reference.PHYSICAL.keep()
    rows = [row(case.code, case.registers, case.flags) for case in drawn]
    executed = 0
    for before, after in zip(rows, run(model, backend, rows, fast), strict=True):
        reference.PHYSICAL.undo()
        for address, value in reported(before).items():
            reference.PHYSICAL.write_64(address, value)
        reference.PHYSICAL.mark()
        reference.GPR[:] = before[:16]
        reference.RIP, reference.RFLAGS = ORIGIN, before[ROW_RFLAGS]
        if after[ROW_STEPS] == 0:
            assert after[ROW_REASON] in REFUSALS
            assert after[:ROW_STEPS] == before[:ROW_STEPS]
            continue
        model.functions["cycle"](reference)
        assert after[:16] == list(reference.GPR)
        assert (after[ROW_RIP], after[ROW_RFLAGS]) == (reference.RIP, reference.RFLAGS)
        assert reported(after) == dict(reference.PHYSICAL.changes())
        executed += 1
    assert executed > len(drawn) // 2


def random_cases(model: Model, count: int) -> list[Case]:
    """Cases of random forms that have a handler."""
    known = coverage(model.program)
    covered = [form for form in forms(model.program) if known[form.instruction.name]]
    source = random.Random(7)
    cases = Cases(Encoder(model.program), source)
    return [cases.case(source.choice(covered)) for _ in range(count)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_case_ends_after_its_instructions_or_before_one_that_is_refused(model: Model, backend: str) -> None:
    code = assembled(model, "again: inc rax\n push rax\n loop_: dec rcx\n jnz again\n cpuid")
    registers = [0] * 16
    registers[1], registers[4] = 2, STACK + REGION
    steps = (0, 1, 3, 7, 8, 100)
    rows = run(model, backend, [row(code, registers, steps=n) for n in steps])
    assert [r[ROW_STEPS] for r in rows] == [0, 1, 3, 7, 8, 8]
    assert [r[ROW_REASON] for r in rows] == [Reason.BUDGET] * 5 + [Reason.NO_HANDLER]
    assert [r[0] for r in rows] == [0, 1, 1, 2, 2, 2]
    assert reported(rows[3]) == {STACK + REGION - 8: 1, STACK + REGION - 16: 2}
    assert rows[5][ROW_RIP] == ORIGIN + len(code) - 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_code_and_page_tables_of_a_case_are_its_own(model: Model, backend: str) -> None:
    read = assembled(model, f"mov rax, [{DATA}]")
    m = flat_machine(model)
    m.PHYSICAL.write_64(DATA, 1)
    entry, directory = 0x2000, 0x3000
    moved = ((entry, directory | 0x27), (directory, 0xE7), (DATA, 3))
    absent = ((entry, 0),)
    other = assembled(model, "mov eax, 9")
    rows = [row(read, [0] * 16), row(other, [0] * 16), row(read, [0] * 16, words=moved)]
    rows += [row(read, [0] * 16, words=absent), row(read, [0] * 16)]
    after = run(model, backend, rows, m)
    assert [(r[0], r[ROW_REASON]) for r in after] == [
        (1, Reason.BUDGET),
        (9, Reason.BUDGET),
        (3, Reason.BUDGET),
        (0, Reason.MEMORY_ACCESS),
        (1, Reason.BUDGET),
    ]


def test_accessed_and_dirty_flags_are_changes_too(model: Model) -> None:
    clean = ((0x2000, 0x87),)
    code = assembled(model, f"mov qword [{DATA}], rax")
    after = run(model, "native", [row(code, [5] * 16, words=clean)])[0]
    assert reported(after) == {0x2000: 0xE7, DATA: 5}


def test_what_cannot_run_says_why(model: Model) -> None:
    code = assembled(model, "nop")
    trapped = row(code, [0] * 16, flags=0x102)
    outside = row(code, [0] * 16, words=((1 << 20, 0),))
    too_many = row(code, [0] * 16)
    too_many[ROW_COUNT] = MOST_WORDS + 1
    after = run(model, "native", [trapped, outside, too_many, row(code, [0] * 16)])
    assert [r[ROW_REASON] for r in after] == [
        Reason.UNSUPPORTED_STATE,
        Reason.BAD_CASE,
        Reason.BAD_CASE,
        Reason.BUDGET,
    ]
    m = flat_machine(model)
    m.EFER = 0
    assert run(model, "native", [row(code, [0] * 16)], m)[0][ROW_REASON] == Reason.UNSUPPORTED_STATE


def test_a_case_that_changes_more_than_fits_stops_before_it(model: Model) -> None:
    code = assembled(model, "again: push rax\n jmp again")
    registers = [STACK] * 16
    after = run(model, "native", [row(code, registers, steps=1000)])[0]
    assert (after[ROW_REASON], after[ROW_COUNT]) == (Reason.MEMORY_ACCESS, MOST_WORDS)
    assert after[ROW_STEPS] == 2 * MOST_WORDS
    assert after[ROW_RIP] == ORIGIN


def test_runs_and_cases_do_not_disturb_each_other(model: Model) -> None:
    m = flat_machine(model)
    m.PHYSICAL.write_bytes(ORIGIN, assembled(model, "again: inc qword [0x20000]\n jmp again"))
    engine = FastEngine(model.program, m)
    for _ in range(3):
        m.RIP = ORIGIN
        assert engine.run(10) == 10
        buffer = array("Q", row(assembled(model, "inc qword [0x20000]"), [0] * 16))
        engine.run_cases(buffer)
        assert reported(buffer.tolist()) == {DATA: m.PHYSICAL.read_64(DATA) + 1}
    assert m.PHYSICAL.read_64(DATA) == 15


def test_rows_must_be_whole(model: Model) -> None:
    engine = FastEngine(model.program, flat_machine(model))
    engine.run_cases(array("Q"))
    with pytest.raises(ValueError, match="512 bytes a case"):
        engine.run_cases(array("Q", [0] * (ROW_WORDS + 1)))
    with pytest.raises(ValueError, match="512 bytes a case"):
        engine.run_cases(bytes(8 * ROW_WORDS))
