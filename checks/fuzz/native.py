"""Many cases in native code: fast model and compiled reference run the same rows, and what differs is looked at.

A row (fastmodel/cases.py) is a case that changes general registers, RIP, RFLAGS and memory only. The compiled reference
runs as many instructions of it as the fast model did. Where the two leave different rows, the case runs once more, in
Python, on the plain reference, which decides: differences in what is undefined are none.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from checks.case import Case
from checks.fuzz.bases import MEMORY_SIZE, STACK_TOP, Bases
from checks.fuzz.generate import Generator
from checks.fuzz.operands import draw_value
from checks.fuzz.values import boundaries
from fastmodel import FastEngine
from fastmodel.cases import (
    MOST_WORDS,
    ROW_COUNT,
    ROW_LIST,
    ROW_OTHER,
    ROW_REASON,
    ROW_RFLAGS,
    ROW_RIP,
    ROW_STEPS,
    ROW_WORDS,
)
from refmodel.model import Model

ROWS = 4096  # of a batch
_ROWS_PER_CODE = 16
_MOST_CODES = 200_000  # that the compiled reference has decoded: it forgets none
_POOL = 4096  # values that rows take theirs from
_WORD = 8
_NOPS = b"\x90" * _WORD
_CODE = range(0, 6 * _WORD, _WORD)  # offsets of the words of code from RIP
_RSP = 4


@dataclass(frozen=True)
class Rows:
    """Rows that all start from one machine: a base, with `state` changed in it."""

    base: str
    state: dict[str, int]
    words: array[int]

    def __len__(self) -> int:
        return len(self.words) // ROW_WORDS

    def case(self, number: int) -> Case:
        """A row as a case."""
        row = self.words[number * ROW_WORDS : (number + 1) * ROW_WORDS]
        registers = {f"GPR[{n}]": row[n] for n in range(16)}
        pairs = [(row[n], row[n + 1]) for n in range(ROW_LIST, ROW_LIST + 2 * row[ROW_COUNT], 2)]
        code = b"".join(
            word.to_bytes(_WORD, "little") for address, word in pairs if address - row[ROW_RIP] in _CODE
        )
        memory = [(a, word.to_bytes(_WORD, "little")) for a, word in pairs if a - row[ROW_RIP] not in _CODE]
        state = {**self.state, **registers, "RIP": row[ROW_RIP], "RFLAGS": row[ROW_RFLAGS]}
        return Case("fuzz", "fuzz", code, "", self.base, row[ROW_STEPS], state, tuple(memory))


class NativeBatches:
    """Draws rows and compares them.  Raises ImportError without llvmlite."""

    def __init__(self, model: Model, generator: Generator) -> None:
        self._model = model
        self._generator = generator
        self._bases = Bases(model)
        self._machines = [model.machine(MEMORY_SIZE) for _ in range(2)]
        self._fast = FastEngine(model.program, self._machines[0], "native")
        self._reference = self._compiled()
        self._codes = 0
        self._executed = 0

    def _compiled(self) -> Any:
        from fastmodel.reference import CompiledReference

        return CompiledReference(self._model, self._machines[1])

    def draw(self, source: Random) -> Rows:
        """Rows that start from a base, sometimes with a control bit changed."""
        base = source.choice(self._generator.scope.bases)
        control = self._generator.control(source)
        words = array("Q")
        pool = _Pool(source)
        while len(words) < ROWS * ROW_WORDS:
            for row in self._rows(source, base, pool):
                words.extend(row)
        return Rows(base, control, words)

    def _rows(self, source: Random, base: str, pool: _Pool) -> Iterator[list[int]]:
        """Rows with one code, and all else different."""
        self._codes += 1
        draft, case = self._generator.drawn(source, base)
        row = _row(case)
        if row is None:
            return
        numbers = [int(name[4:-1]) for name in draft.values]
        content = [ROW_LIST + 2 * n + 1 for n in range(len(case.memory))]
        flags = pool.flags(self._generator.status_mask)
        for _ in range(_ROWS_PER_CODE):
            yield row
            row = row.copy()
            for number in (*numbers, *content):
                row[number] = pool.value()
            row[ROW_RFLAGS] = next(flags)

    def differing(self, rows: Rows) -> list[int]:
        """The numbers of the rows that end differently."""
        self._start(rows)
        fast, reference = rows.words[:], rows.words[:]
        self._fast.run_cases(fast)
        reference[ROW_STEPS::ROW_WORDS] = fast[ROW_STEPS::ROW_WORDS]
        self._reference.run_cases(reference)
        self._executed += sum(fast[ROW_STEPS::ROW_WORDS])
        other, reasons = reference[ROW_OTHER::ROW_WORDS], reference[ROW_REASON::ROW_WORDS]
        first, second = memoryview(fast), memoryview(reference)
        return [
            number
            for number in range(len(rows))
            if other[number] or reasons[number] or not _is_same(first, second, number * ROW_WORDS)
        ]

    def take_executed(self) -> int:
        """How many instructions the fast model has executed since this was asked last."""
        executed, self._executed = self._executed, 0
        return executed

    def _start(self, rows: Rows) -> None:
        if self._codes > _MOST_CODES:
            self._codes = 0
            self._model.decoder.known.clear()
            self._reference = self._compiled()
        for machine in self._machines:
            self._bases.prepare(machine, rows.base)
            for name, value in rows.state.items():
                setattr(machine, name, value)
        self._reference.take_state()


def native_batches(model: Model, generator: Generator) -> NativeBatches | None:
    """What runs cases in native code; None without llvmlite."""
    try:
        return NativeBatches(model, generator)
    except ImportError:
        return None


class _Pool:
    """Values to take at random, drawn once: drawing each would cost more than running it."""

    def __init__(self, source: Random) -> None:
        special = boundaries()
        self._values = [draw_value(source, special) for _ in range(_POOL)]
        self._random = source.random
        self._bits = source.getrandbits

    def value(self) -> int:
        """A 64-bit value."""
        return self._values[int(self._random() * _POOL)]

    def flags(self, mask: int) -> Iterator[int]:
        """Values of RFLAGS with any of the flags in the mask."""
        while True:
            yield 2 | self._bits(12) & mask


def _row(case: Case) -> list[int] | None:
    """The row of a case, None if it does not fit."""
    code = case.code + _NOPS[: -len(case.code) % _WORD]
    rip = case.state["RIP"]
    pairs = [(address, int.from_bytes(data, "little")) for address, data in case.memory]
    pairs += [(rip + n, int.from_bytes(code[n : n + _WORD], "little")) for n in range(0, len(code), _WORD)]
    if len(pairs) > MOST_WORDS or len(code) > _CODE.stop:
        return None
    row = [0] * ROW_WORDS
    for name, value in case.state.items():
        if name.startswith("GPR["):
            row[int(name[4:-1])] = value
    row[_RSP] = case.state.get(f"GPR[{_RSP}]", STACK_TOP)
    row[ROW_RIP], row[ROW_RFLAGS], row[ROW_STEPS] = rip, case.state.get("RFLAGS", 2), case.steps
    row[ROW_COUNT] = len(pairs)
    for n, pair in enumerate(pairs):
        row[ROW_LIST + 2 * n : ROW_LIST + 2 * n + 2] = pair
    return row


def _is_same(first: Any, second: Any, start: int) -> bool:
    """Whether two rows end alike: registers, the number of instructions, and the words of memory in any order."""
    registers = slice(start, start + ROW_REASON)
    if first[registers] != second[registers]:
        return False
    count = first[start + ROW_COUNT]
    words = slice(start + ROW_LIST, start + ROW_LIST + 2 * count)
    if count != second[start + ROW_COUNT]:
        return False
    return first[words] == second[words] or _pairs(first[words]) == _pairs(second[words])


def _pairs(words: Any) -> set[tuple[int, int]]:
    return set(zip(words[::2], words[1::2], strict=True))
