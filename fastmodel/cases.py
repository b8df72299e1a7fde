"""Many short runs in one call: each starts from the same machine with registers and words of memory of its own.

A case is a row of words (rows.py). Memory is put back after each case, and every case begins with nothing translated or
decoded.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import below, field, get, load, put, set_field, store
from fastmodel.journal import note_write
from fastmodel.loop import execute, run
from fastmodel.memory import forget_translations
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
from fastmodel.state import (
    BAD_CASE,
    CASE_STEPS,
    GPR,
    JOURNAL,
    JOURNAL_COUNT,
    JOURNAL_LIMIT,
    MEMORY,
    MEMORY_SIZE,
    REASON,
    REFUSED_FLAGS,
    RFLAGS,
    RIP,
    STALE,
    UNSUPPORTED_STATE,
)
from fastmodel.traces import forget_decoded

# A run stops before an instruction that would need more than these entries of the journal.
MOST_NOTES = MOST_WORDS


def run_cases(state: int, row: int, count: int) -> int:
    """Runs `count` cases whose rows lie behind each other from `row` on."""
    while count > 0:
        run_case(state, row)
        row = row + ROW_WORDS * 8
        count = count - 1
    return forget_decoded(state)


def run_case(state: int, row: int) -> int:
    """Runs one case and puts memory back."""
    forget_translations(state)
    forget_decoded(state)
    copy_registers_in(state, row)
    steps = field(64, row + ROW_STEPS * 8)
    done = 0
    put(64, state + REASON, 0)
    put(64, state + JOURNAL_LIMIT, 2 * MOST_WORDS)
    prepare_memory(state, row)
    begin = get(64, state + JOURNAL_COUNT)
    put(64, state + JOURNAL_LIMIT, begin + MOST_NOTES)
    if get(64, state + REASON) == 0:
        done = execute_case(state, steps)
    copy_registers_out(state, row)
    set_field(64, row + ROW_STEPS * 8, done)
    set_field(64, row + ROW_REASON * 8, get(64, state + REASON))
    report_changes(state, row, begin)
    return put_back(state)


def execute_case(state: int, steps: int) -> int:
    """Runs a case that is prepared, and sets REASON; returns how many instructions completed."""
    most = get(64, state + CASE_STEPS)
    if get(64, state + RFLAGS) & get(64, state + REFUSED_FLAGS) != 0:
        most = 0
    if below(steps, most):
        most = steps
    done = most - execute(state, most)
    if done == most and most != steps:
        put(64, state + REASON, UNSUPPORTED_STATE)
    return done


def run_registers(state: int, registers: int, budget: int) -> int:
    """As `run`, with registers that lie elsewhere, in the order of a row; translations that are stale go first."""
    if get(64, state + STALE) != 0:
        put(64, state + STALE, 0)
        forget_translations(state)
    copy_registers_in(state, registers)
    remaining = run(state, budget)
    copy_registers_out(state, registers)
    return remaining


def copy_registers_in(state: int, row: int) -> int:
    """The registers of a case."""
    n = 0
    while n < 16 * 8:
        put(64, state + GPR + n, field(64, row + ROW_GPR * 8 + n))
        n = n + 8
    put(64, state + RIP, field(64, row + ROW_RIP * 8))
    put(64, state + RFLAGS, field(64, row + ROW_RFLAGS * 8))
    return 0


def copy_registers_out(state: int, row: int) -> int:
    """The registers at its end."""
    n = 0
    while n < 16 * 8:
        set_field(64, row + ROW_GPR * 8 + n, get(64, state + GPR + n))
        n = n + 8
    set_field(64, row + ROW_RIP * 8, get(64, state + RIP))
    set_field(64, row + ROW_RFLAGS * 8, get(64, state + RFLAGS))
    return 0


def prepare_memory(state: int, row: int) -> int:
    """Writes the words of the list, in order; sets REASON if they are too many or one lies outside of memory."""
    count = field(64, row + ROW_COUNT * 8)
    if not below(count, MOST_WORDS + 1):
        put(64, state + REASON, BAD_CASE)
        return 0
    word = row + ROW_LIST * 8
    end = word + count * 16
    while word < end:
        address = field(64, word)
        if not below(address, get(64, state + MEMORY_SIZE) - 7):
            put(64, state + REASON, BAD_CASE)
            return 0
        host = get(64, state + MEMORY) + address
        note_write(state, host, 8)
        store(64, host, field(64, word + 8))
        word = word + 16
    return 0


def report_changes(state: int, row: int, begin: int) -> int:
    """Lists the words that the run changed, each once; `begin` is where its notes in the journal begin."""
    journal = get(64, state + JOURNAL)
    word = row + ROW_LIST * 8
    note = journal + begin * 16
    end = journal + get(64, state + JOURNAL_COUNT) * 16
    while note < end:
        address = field(64, note)
        now = load(64, get(64, state + MEMORY) + address)
        if now != field(64, note + 8) and is_first_note(journal + begin * 16, note, address):
            set_field(64, word, address)
            set_field(64, word + 8, now)
            word = word + 16
        note = note + 16
    set_field(64, row + ROW_COUNT * 8, (word - row - ROW_LIST * 8) >> 4)
    return 0


def is_first_note(begin: int, note: int, address: int) -> bool:
    """Whether no note from `begin` on, before this one, is of the same word: only the first has what it held."""
    while begin < note:
        if field(64, begin) == address:
            return False
        begin = begin + 16
    return True


def put_back(state: int) -> int:
    """Gives every word that was written what it held before, the last first, and empties the journal."""
    note = get(64, state + JOURNAL) + get(64, state + JOURNAL_COUNT) * 16
    while note != get(64, state + JOURNAL):
        note = note - 16
        store(64, get(64, state + MEMORY) + field(64, note), field(64, note + 8))
    put(64, state + JOURNAL_COUNT, 0)
    return 0
