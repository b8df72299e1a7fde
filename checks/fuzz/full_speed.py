"""The fast model against the compiled reference: rows of cases, some ten thousand a second.

A code is drawn as for any case, and run from many states at once. Both engines run the same rows, the reference as
many instructions as the fast model did. Rows that differ become cases, and the Python reference decides on them.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from checks.case import Case
from checks.fuzz.bases import MEMORY_SIZE, NOP, Bases
from checks.fuzz.difference import NONE, Difference, Divergence
from checks.fuzz.generate import Generator
from checks.fuzz.operands import Draft
from fastmodel import FastEngine
from fastmodel.reference import CompiledReference
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
from refmodel.model import Model

CODES = 16  # of a batch, which all start from one base
STATES = 256  # in which each code runs
VALUES = 64  # that a register gets in them
WORD = 8  # bytes
COLUMNS = ("compiled", "fast")


@dataclass
class Speed:
    """How much was run, in how many seconds of the process.

    `undefined` rows differed in undefined bits only; of `unconfirmed` ones the plain reference says what the fast model
    does: the compiled reference is wrong.
    """

    batches: int = 0
    cases: int = 0
    seconds: float = 0.0
    undefined: int = 0
    unconfirmed: int = 0


class FullSpeed:
    """Runs batches of rows on the fast model and on the compiled reference.  Raises ImportError without llvmlite."""

    def __init__(self, model: Model, generator: Generator) -> None:
        self.speed = Speed()
        self._generator = generator
        self._bases = Bases(model)
        self._machine = model.machine(MEMORY_SIZE)
        self._reference = CompiledReference(model, self._machine)
        self._fast = FastEngine(model.program, self._machine)

    def batch(self, seed: int) -> list[Divergence]:
        """Runs the next batch of a campaign with this seed; rows that differ as cases, one of each code."""
        begin = time.process_time()
        source = Random(f"{seed} rows {self.speed.batches}")
        base = source.choice(self._generator.scope.bases)
        self._bases.prepare(self._machine, base)
        self._reference.take_state()
        codes = [self._generator.draft(source, base) for _ in range(CODES)]
        start = array("Q")
        for draft in codes:
            start.extend(self._rows(draft))
        fast, reference = start[:], start[:]
        self._fast.run_cases(fast)
        reference[ROW_STEPS::ROW_WORDS] = fast[ROW_STEPS::ROW_WORDS]
        self._reference.run_cases(reference)
        found = [
            Divergence(
                _case(codes[row // (STATES * ROW_WORDS)], start, row, base),
                tuple(_differences(fast, reference, row)),
            )
            for row in _differing(fast, reference)
        ]
        self.speed.batches += 1
        self.speed.cases += CODES * STATES
        self.speed.seconds += time.process_time() - begin
        return found

    def _rows(self, draft: Draft) -> array[int]:
        """The rows of one code."""
        source = draft.source
        rows = array("Q", self._template(draft)) * STATES
        for name in sorted(draft.values):
            _fill(rows, int(name[4:-1]), [self._generator.value(draft) for _ in range(VALUES)], source)
        _fill(rows, ROW_RFLAGS, [self._generator.flags(source) for _ in range(VALUES)], source)
        for number in range(len(_memory(draft))):
            contents = [self._generator.value(draft) for _ in range(VALUES)]
            _fill(rows, ROW_LIST + 2 * number + 1, contents, source)
        for number, entry in enumerate(draft.entries, len(_memory(draft))):
            changed = [entry.changed(source) for _ in range(VALUES)]
            _fill(rows, ROW_LIST + 2 * number + 1, changed, source)
        return rows

    def _template(self, draft: Draft) -> list[int]:
        """The row that a code's rows begin with: its registers, and its memory, the code last."""
        row = [0] * ROW_WORDS
        row[ROW_GPR : ROW_GPR + 16] = self._machine.GPR
        for name, value in draft.state.items():
            if name.startswith("GPR["):
                row[int(name[4:-1])] = value
        row[ROW_RIP], row[ROW_STEPS] = draft.address, draft.steps
        code = _padded(draft.code)
        words = [
            *_memory(draft),
            *(entry.word(draft.source) for entry in draft.entries),
            *((draft.address + n, code[n : n + WORD]) for n in range(0, len(code), WORD)),
        ]
        row[ROW_COUNT] = len(words)
        for number, (address, data) in enumerate(words):
            row[ROW_LIST + 2 * number : ROW_LIST + 2 * number + 2] = address, int.from_bytes(data, "little")
        return row


def _padded(code: bytes) -> bytes:
    """The code in whole words: what stands behind it in a base are NOPs."""
    return code + NOP * (-len(code) % WORD)


def _memory(draft: Draft) -> list[tuple[int, bytes]]:
    """The words that a code needs in memory, as many as a row has room for."""
    room = MOST_WORDS - len(_padded(draft.code)) // WORD - len(draft.entries)
    return list(draft.memory.items())[:room]


def _fill(rows: array[int], word: int, values: list[int], source: Random) -> None:
    """Gives a word of every row one of the values."""
    rows[word::ROW_WORDS] = array("Q", source.choices(values, k=len(rows) // ROW_WORDS))


def _differing(fast: array[int], reference: array[int]) -> Iterator[int]:
    """The first words of rows in which the engines differ, one of each code."""
    for rows in (fast, reference):
        rows[ROW_REASON::ROW_WORDS] = array("Q", bytes(WORD * (len(rows) // ROW_WORDS)))
    if fast.tobytes() == reference.tobytes():
        return
    size = STATES * ROW_WORDS
    for code in range(0, len(fast), size):
        if fast[code : code + size] != reference[code : code + size]:
            of_code = range(code, code + size, ROW_WORDS)
            yield from [row for row in of_code if _result(fast, row) != _result(reference, row)][:1]


def _result(rows: array[int], row: int) -> tuple[object, ...]:
    """What counts of a row: the words of memory in any order."""
    return *rows[row : row + ROW_LIST], _pairs(rows, row)


def _differences(fast: array[int], reference: array[int], row: int) -> Iterator[Difference]:
    """Where two rows differ; a word of memory that one of them does not list is as it was."""
    names = {**{ROW_GPR + n: f"GPR[{n}]" for n in range(16)}, ROW_RIP: "RIP", ROW_RFLAGS: "RFLAGS"}
    for word, name in names.items():
        if fast[row + word] != reference[row + word]:
            yield Difference(name, reference[row + word], fast[row + word])
    listed = [dict(_pairs(rows, row)) for rows in (reference, fast)]
    for address in sorted(listed[0].keys() | listed[1].keys()):
        values = [words.get(address, NONE) for words in listed]
        if values[0] != values[1]:
            yield Difference(f"memory {address:#x}", *values)


def _pairs(rows: array[int], row: int) -> list[tuple[int, int]]:
    """The words of memory that a row lists, by address."""
    pairs = range(row + ROW_LIST, row + ROW_LIST + 2 * rows[row + ROW_COUNT], 2)
    return sorted((rows[n], rows[n + 1]) for n in pairs)


def _case(draft: Draft, start: array[int], row: int, base: str) -> Case:
    """The case that a row stands for."""
    count = len(_memory(draft)) + len(draft.entries)
    pairs = range(row + ROW_LIST, row + ROW_LIST + 2 * count, 2)
    registers = {f"GPR[{n}]": start[row + n] for n in range(16)}
    return Case(
        kind="fuzz",
        id="fuzz",
        code=_padded(draft.code),
        instruction=draft.names[0],
        base=base,
        steps=draft.steps,
        columns=COLUMNS,
        text="the compiled reference differs, and the plain one does not",
        state={**registers, "RIP": draft.address, "RFLAGS": start[row + ROW_RFLAGS]},
        memory=tuple((start[n], start[n + 1].to_bytes(WORD, "little")) for n in pairs),
    )
