"""The compiled reference against the Python reference: random instructions, faults and VM exits included."""

from __future__ import annotations

import random
from array import array
from copy import copy
from dataclasses import dataclass
from typing import Any

import pytest

from checks.fuzz.bases import BASES, CODE, DATA, MEMORY_SIZE, SPECIAL_PAGES, Bases
from fastmodel.reference import LEFT_TO_PYTHON, CompiledReference
from fastmodel.rows import (
    ROW_COUNT,
    ROW_LIST,
    ROW_OTHER,
    ROW_REASON,
    ROW_RFLAGS,
    ROW_RIP,
    ROW_STEPS,
    ROW_WORDS,
)
from refmodel.decoder import NotModelled
from refmodel.forms import Form, forms
from refmodel.memory import RecordingMemory
from refmodel.model import Model
from refmodel.runtime import Abort

CASES = 250
STEPS = 3
STATUS_FLAGS = 0xCD5
TRAP_FLAG = 0x100
PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x64)
ADDRESSES = (DATA, DATA + 0xFF9, 1 << 47, CODE, *(page.address + 0x7FC for page in SPECIAL_PAGES))


@dataclass
class Start:
    """What a case begins with."""

    registers: list[int]
    rip: int
    flags: int
    code: bytes

    def words(self) -> list[tuple[int, int]]:
        return [
            (self.rip + n, int.from_bytes(self.code[n : n + 8], "little"))
            for n in range(0, len(self.code), 8)
        ]

    def row(self) -> list[int]:
        row = [0] * ROW_WORDS
        row[:16] = self.registers
        row[ROW_RIP], row[ROW_RFLAGS], row[ROW_STEPS] = self.rip, self.flags, STEPS
        row[ROW_COUNT] = len(self.words())
        for n, pair in enumerate(self.words()):
            row[ROW_LIST + 2 * n : ROW_LIST + 2 * n + 2] = pair
        return row


def random_bytes(source: random.Random, every: list[Form]) -> bytes:
    """An opcode of the specification, behind any prefixes, with anything behind it."""
    shape = source.choice(every).pattern
    prefixes = bytes([source.choice(PREFIXES)]) if source.random() < 0.1 else b""
    rex = bytes([0x40 | source.randrange(16)]) if source.random() < 0.5 else b""
    opcode = bytes([source.choice(list(shape.opcodes()))])
    return prefixes + rex + shape.escape + opcode + source.randbytes(source.choice((1, 2, 5, 9)))


def random_start(source: random.Random, every: list[Form]) -> Start:
    kinds = (lambda: source.getrandbits(64), lambda: source.choice(ADDRESSES), lambda: source.randrange(16))
    code = b"".join(random_bytes(source, every) for _ in range(STEPS))[:40]
    flags = 2 | source.getrandbits(12) & STATUS_FLAGS | (TRAP_FLAG if source.random() < 0.05 else 0)
    return Start(
        [source.choice(kinds)() for _ in range(16)],
        CODE + source.choice((0, 0x800, 0xFF8)),
        flags,
        code + b"\x90" * (-len(code) % 8),
    )


class Kept:
    """The state of a machine, to go back to."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.slots = {name: copy(getattr(machine, name)) for name in type(machine).__slots__}
        self.fields = {name: getattr(machine.vmcs, name) for name in type(machine.vmcs).__slots__}
        machine.PHYSICAL.keep()

    def restore(self) -> None:
        for name, value in self.slots.items():
            setattr(self.machine, name, copy(value))
        for name, value in self.fields.items():
            setattr(self.machine.vmcs, name, value)
        self.machine.PHYSICAL.undo()


def prepare(machine: Any, start: Start) -> None:
    machine.GPR[:] = start.registers
    machine.RIP, machine.RFLAGS = start.rip, start.flags
    for address, word in start.words():
        machine.PHYSICAL.write_64(address, word)


def run_in_python(model: Model, machine: Any, start: Start) -> tuple[object, ...]:
    """The number of instructions completed, how the run ended, the registers, and the memory that it changed."""
    prepare(machine, start)
    machine.PHYSICAL.mark()
    done, end = 0, ""
    try:
        for _ in range(STEPS):
            if model.functions["code_size"](machine) != 64:  # the compiled reference leaves it to Python
                return done, "NotModelled"
            model.functions["cycle"](machine)
            done += 1
    except (Abort, NotModelled) as error:
        end = type(error).__name__.removesuffix("Abort")
    return done, end, *machine.GPR, machine.RIP, machine.RFLAGS, machine.PHYSICAL.changes()


def result_of(row: array[int], aborts: list[str]) -> tuple[object, ...]:
    """The same of a row."""
    reason = row[ROW_REASON]
    end = "NotModelled" if reason == LEFT_TO_PYTHON else ["", *aborts][reason]
    pairs = [(row[n], row[n + 1]) for n in range(ROW_LIST, ROW_LIST + 2 * row[ROW_COUNT], 2)]
    return row[ROW_STEPS], end, *row[:16], row[ROW_RIP], row[ROW_RFLAGS], sorted(pairs)


@pytest.mark.parametrize("base", BASES)
def test_compiled_and_python_reference_agree(model: Model, base: str) -> None:
    pytest.importorskip("llvmlite")
    source = random.Random(base)
    every = forms(model.program)
    machine = model.machine(RecordingMemory(MEMORY_SIZE))
    Bases(model).prepare(machine, base)
    kept = Kept(machine)
    starts = [random_start(source, every) for _ in range(CASES)]
    rows = array("Q", [word for start in starts for word in start.row()])
    CompiledReference(model, machine).run_cases(rows)
    ends = set()
    for number, start in enumerate(starts):
        kept.restore()
        expected = run_in_python(model, machine, start)
        row = rows[number * ROW_WORDS : (number + 1) * ROW_WORDS]
        found = result_of(row, list(model.program.aborts))
        ends.add(expected[1])
        if expected[1] == "NotModelled":  # whatever ran before is left to Python too
            assert found[1] == "NotModelled"
        else:
            assert found == expected, f"{base}: {start.code.hex(' ')} at {start.rip:#x}"
    assert "" in ends
    assert ("VmExit" in ends) == base.startswith("guest-")


# VMCLEAR and VMREAD with operands of each shape: base, index and scale, relative to RIP, registers.
EXITING = (
    "66 0f c7 33",
    "66 43 0f c7 74 e7 08",
    "66 0f c7 35 f9 ff ff ff",
    "67 0f 78 1c 8d 00 00 00 80",
    "44 0f 78 c9",
)


@pytest.mark.parametrize("code", EXITING)
def test_vm_exits_carry_the_same(model: Model, code: str) -> None:
    pytest.importorskip("llvmlite")
    machine = model.machine(RecordingMemory(MEMORY_SIZE))
    Bases(model).prepare(machine, "guest-kernel")
    kept = Kept(machine)
    start = Start([n << 12 for n in range(16)], CODE, 2, bytes.fromhex(code).ljust(16, b"\x90"))
    reference = CompiledReference(model, machine)
    reference.run_cases(array("Q", start.row()))
    kept.restore()
    prepare(machine, start)
    with pytest.raises(Abort) as exit_:
        model.functions["cycle"](machine)
    assert reference.carried("VmExit") == list(exit_.value.value)


def test_changes_of_other_state_are_told(model: Model) -> None:
    pytest.importorskip("llvmlite")
    machine = model.machine(MEMORY_SIZE)
    Bases(model).prepare(machine, "kernel")
    rows = array("Q")
    for code in (b"\x0f\x06", b"\x90"):  # CLTS, NOP
        rows.extend(Start([0] * 16, CODE, 2, code + b"\x90" * 6).row())
    machine.CR0 |= 8  # TS
    CompiledReference(model, machine).run_cases(rows)
    assert [rows[ROW_OTHER], rows[ROW_WORDS + ROW_OTHER]] == [1, 0]


def test_rows_of_another_size_are_refused(model: Model) -> None:
    pytest.importorskip("llvmlite")
    machine = model.machine(MEMORY_SIZE)
    Bases(model).prepare(machine, "kernel")
    with pytest.raises(ValueError, match="rows are 64 words"):
        CompiledReference(model, machine).run_cases(array("Q", [0]))
