"""How many short cases a second: registers and code of their own, four instructions, and everything read back.

The fast model runs them in batches, Unicorn one after the other from Python, as a fuzzer would. Both must compute the
same.
"""

from __future__ import annotations

import random
from array import array
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from statistics import median
from typing import Any

from checks.bench.engines import timed
from checks.bench.machine import BUFFER, CODE, MEMORY_SIZE, STACK_TOP, make_machine
from checks.bench.measure import WrongResult
from fastmodel import FastEngine
from fastmodel.rows import (
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
from refmodel.model import Model

STEPS = 4
RSP, RDI = 4, 7
FLAGS = 2
SLOW_CASES = 500
FAST_COPIES = 40  # how many times as many the fast model runs

# Four instructions each; AF is defined after the last.
PROGRAMS = (
    "add rax, rbx\n sub rcx, rdx\n lea r8, [rax + rcx*2 + 5]\n cmp r8, r9",
    "mov r10, rax\n adc r10, rbx\n sbb r11d, r10d\n neg r12b",
    "mov rax, [rdi]\n add [rdi + 8], rbx\n xchg rcx, rdx\n inc r13w",
    "push rax\n pop rbx\n movzx ecx, dl\n add cx, r14w",
)

# By number, then the others.
REGISTERS = (
    *("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"),
    *(f"R{number}" for number in range(8, 16)),
    *("RIP", "EFLAGS"),
)

Result = tuple[int, ...]


class BatchedCases:
    """The fast model."""

    name = "fast"

    def __init__(self, model: Model, codes: list[bytes], states: list[list[int]]) -> None:
        machine = make_machine(model)
        machine.PREEMPTION_TIMER_VALUE = 1 << 16
        self._engine = FastEngine(model.program, machine)
        words: list[int] = []
        for n, registers in enumerate(states):
            words += _row(codes[n % len(codes)], registers)
        self._cases = len(states)
        self._template = array("Q", words) * FAST_COPIES

    def run(self) -> tuple[float, list[Result]]:
        """Seconds for a case, and what the first ones computed; making the rows is not measured."""
        rows = self._template[:]
        seconds, _ = timed(lambda: self._engine.run_cases(rows))
        found = [
            (*rows[n : n + 16], rows[n + ROW_RIP], rows[n + ROW_RFLAGS])
            for n in range(0, self._cases * ROW_WORDS, ROW_WORDS)
        ]
        if any(rows[n + ROW_STEPS] != STEPS for n in range(0, len(rows), ROW_WORDS)):
            raise WrongResult(f"short cases: the fast model stops early ({set(rows[ROW_REASON::ROW_WORDS])})")
        return seconds / (self._cases * FAST_COPIES), found


class UnicornCases:
    """Unicorn, driven from Python.  Raises ImportError without it."""

    name = "unicorn"

    def __init__(self, codes: list[bytes], states: list[list[int]]) -> None:
        unicorn: Any = import_module("unicorn")
        constants: Any = import_module("unicorn.x86_const")
        self._registers = [getattr(constants, f"UC_X86_REG_{name}") for name in REGISTERS]
        self._emulator: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._emulator.mem_map(0, MEMORY_SIZE)
        self._cases = [
            (codes[n % len(codes)], list(zip(self._registers, [*registers, CODE, FLAGS], strict=True)))
            for n, registers in enumerate(states)
        ]

    def run(self) -> tuple[float, list[Result]]:
        """Seconds for a case, and what they computed."""
        found: list[Result] = []
        seconds, _ = timed(lambda: found.extend(map(self._run_one, self._cases)))
        return seconds / len(self._cases), found

    def _run_one(self, case: tuple[bytes, list[tuple[int, int]]]) -> Result:
        """Sets all, runs, reads all; the memory that a case may change is put back."""
        code, registers = case
        emulator = self._emulator
        emulator.mem_write(CODE, code)
        emulator.ctl_remove_cache(CODE, CODE + len(code))
        emulator.reg_write_batch(registers)
        emulator.emu_start(CODE, 0, count=STEPS)
        found = tuple(emulator.reg_read_batch(self._registers))
        emulator.mem_write(BUFFER, bytes(16))
        return found


def short_cases_per_second(model: Model, repeats: int) -> dict[str, float]:
    """Cases a second by engine, medians; Raises WrongResult if the engines differ."""
    codes = [assemble(text, Encoder(model.program)).code for text in PROGRAMS]
    source = random.Random(1)
    states = [[source.getrandbits(64) for _ in range(16)] for _ in range(SLOW_CASES)]
    for registers in states:
        registers[RSP], registers[RDI] = STACK_TOP, BUFFER
    runners: list[Any] = [BatchedCases(model, codes, states)]
    with suppress(ImportError):
        runners.append(UnicornCases(codes, states))
    seconds: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for _ in range(repeats):
        results = []
        for runner in runners:
            spent, found = runner.run()
            seconds[runner.name].append(spent)
            results.append(found)
        if any(one != other for one, other in pairwise(results)):
            raise WrongResult("short cases: the fast model and Unicorn differ")
    return {name: 1 / median(spent) for name, spent in seconds.items()}


def _row(code: bytes, registers: list[int]) -> list[int]:
    row = [0] * ROW_WORDS
    row[ROW_GPR : ROW_GPR + 16] = registers
    row[ROW_RIP], row[ROW_RFLAGS], row[ROW_STEPS] = CODE, FLAGS, STEPS
    padded = code + b"\x90" * (-len(code) % 8)
    words = [int.from_bytes(padded[n : n + 8], "little") for n in range(0, len(padded), 8)]
    row[ROW_COUNT] = len(words)
    for n, word in enumerate(words):
        row[ROW_LIST + 2 * n : ROW_LIST + 2 * n + 2] = CODE + 8 * n, word
    return row
