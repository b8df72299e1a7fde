"""The fast engine of a machine: runs its instructions as long as they are plain ones."""

from __future__ import annotations

import ctypes
from array import array
from enum import IntEnum
from typing import Any

from fastmodel import backends, cases, controls, state, table
from fastmodel.handlers import HANDLERS
from grammar.ir import Program
from refmodel.memory import RecordingMemory

PAGE_SIZE = 0x1000
MASK_64 = (1 << 64) - 1
MOST_STEPS = 1 << 62

# What can be written to in place; collections.abc.Buffer where that exists.
Buffer = Any


class Reason(IntEnum):
    """Why a run ended."""

    BUDGET = state.BUDGET
    NO_HANDLER = state.NO_HANDLER
    MEMORY_ACCESS = state.MEMORY_ACCESS
    PAGE_CROSSING = state.PAGE_CROSSING
    BAD_TARGET = state.BAD_TARGET
    SYSTEM_FLAGS = state.SYSTEM_FLAGS
    UNSUPPORTED_STATE = state.UNSUPPORTED_STATE
    BAD_CASE = state.BAD_CASE


class FastEngine:
    """Runs the instructions of a reference machine natively; whatever it refuses is the reference's to do.

    `backend` is "native" or "python"; by default native code is used if llvmlite is installed. Translations and
    decoded instructions are only kept within a run: between two runs anything may have changed.
    """

    def __init__(self, program: Program, machine: Any, backend: str | None = None) -> None:
        self.machine = machine
        self.reason = Reason.BUDGET
        self._backend = backends.choose(backend)
        memory = machine.PHYSICAL
        if memory.size % PAGE_SIZE:
            raise ValueError(f"the memory's size, {memory.size:#x}, is not a multiple of the page size")
        self._state = ctypes.create_string_buffer(state.SIZE)
        self._keep: list[Any] = []  # what the state block points to
        self._words = (ctypes.c_uint64 * (state.SIZE // 8)).from_buffer(self._state)
        self._set(state.MEMORY, memory.address)
        self._set(state.MEMORY_SIZE, memory.size)
        self._set(state.CODE_PAGES, self._allocate(memory.size // PAGE_SIZE))
        self._set(state.CODE_LIST, self._allocate(8 * state.CODE_LIST_LENGTH))
        self._set(state.TRACES, self._allocate(state.TRACE_SLOTS * state.TRACE_SLOT, fill=0xFF))
        decoded = self._allocate(state.DECODED_BYTES)
        for offset in (state.DECODED, state.DECODED_NEXT):
            self._set(offset, decoded)
        self._set(state.DECODED_END, decoded + state.DECODED_BYTES)
        self._set(state.REFUSE_CODE, self._backend.codes[backends.REFUSE])
        self._set(state.END_CODE, self._backend.codes[backends.END_OF_TRACE])
        self._set(state.DECODE_TABLE, self._make_table(program))
        self._journal = self._allocate(16 * state.JOURNAL_LENGTH)
        self._set(state.JOURNAL_LIMIT, state.JOURNAL_LENGTH)
        self._set(state.JOURNAL, self._journal if isinstance(memory, RecordingMemory) else 0)

    @property
    def backend(self) -> str:
        """Native or python."""
        return self._backend.name

    def run(self, steps: int) -> int:
        """Executes up to `steps` instructions; returns how many completed.

        If these are fewer, the next one is the reference's to do, and `reason` says why. Nothing of it has happened.
        """
        m = self.machine
        budget = controls.budget(m, steps)
        if budget == 0 or m.RFLAGS & controls.refused_flags(m) or not controls.is_supported(m):
            self.reason = Reason.BUDGET if steps == 0 else Reason.UNSUPPORTED_STATE
            return 0
        self._copy_registers_in()
        self._copy_controls_in()
        done: int = budget - self._backend.run(self._address, budget)
        self._copy_out(done)
        reason = Reason(self._words[state.REASON // 8])
        self.reason = Reason.UNSUPPORTED_STATE if reason is Reason.BUDGET and done < steps else reason
        return done

    def execute_one(self) -> bool:
        """Executes one instruction; false if it is refused, and then nothing happened."""
        return self.run(1) == 1

    def run_cases(self, rows: Buffer) -> None:
        """Runs many short cases in one call; each begins with the machine as it is, and changes nothing of it.

        `rows` is a writable buffer of unsigned 64-bit words, ROW_WORDS for each case: an `array("Q")`, or an array of
        NumPy. What the words of a row are is said in cases.py; what a run returns stands in their place. Raises
        ValueError if the buffer does not hold whole rows.
        """
        view = memoryview(rows).cast("B")
        count, rest = divmod(view.nbytes, 8 * cases.ROW_WORDS)
        if rest or view.readonly:
            raise ValueError(f"rows must be a writable buffer of {8 * cases.ROW_WORDS} bytes a case")
        if count == 0:
            return
        m, journal = self.machine, self._words[state.JOURNAL // 8]
        self._copy_controls_in()
        is_supported = controls.is_supported(m)
        self._set(state.REFUSED_FLAGS, controls.refused_flags(m) if is_supported else MASK_64)
        self._set(state.CASE_STEPS, controls.budget(m, MOST_STEPS))
        self._set(state.JOURNAL, self._journal)
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        self._backend.run_cases(self._address, address, count)
        self._set(state.JOURNAL, journal)
        self._set(state.JOURNAL_LIMIT, state.JOURNAL_LENGTH)

    # --- the state block ---

    @property
    def _address(self) -> int:
        return ctypes.addressof(self._state)

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // 8] = value

    def _allocate(self, size: int, fill: int = 0) -> int:
        """Memory that lives as long as the engine; returns its address."""
        buffer = ctypes.create_string_buffer(size)
        if fill:
            ctypes.memset(buffer, fill, size)
        self._keep.append(buffer)
        return ctypes.addressof(buffer)

    def _make_table(self, program: Program) -> int:
        found = table.groups_of(program)
        entries = sum(len(group.entries) for group in found.values())
        address = self._allocate(8 * (table.OPCODES + 2 * entries))
        words = table.table_words(found, self._backend.codes, address)
        ctypes.memmove(address, array("Q", words).tobytes(), 8 * len(words))
        return address

    def _copy_registers_in(self) -> None:
        m, words = self.machine, self._words
        words[: len(m.GPR)] = m.GPR
        words[state.RIP // 8] = m.RIP
        words[state.RFLAGS // 8] = m.RFLAGS

    def _copy_controls_in(self) -> None:
        m, words = self.machine, self._words
        words[state.CR3 // 8] = m.CR3
        words[state.EPT_POINTER // 8] = controls.ept_pointer(m)
        words[state.MODE // 8] = controls.mode(m)
        ctypes.memset(self._address + state.READ_TLB, 0xFF, state.SIZE - state.READ_TLB)

    def _copy_out(self, done: int) -> None:
        m, words = self.machine, self._words
        m.GPR[:] = words[: len(m.GPR)]
        m.RIP = m.NEXT_RIP = words[state.RIP // 8]
        m.RFLAGS = words[state.RFLAGS // 8]
        m.TSC = m.TSC + done & MASK_64
        if controls.counts_down(m):
            m.PREEMPTION_TIMER_VALUE -= done
        self._hand_over_journal()

    def _hand_over_journal(self) -> None:
        """Tells a memory that can be put back what the words that were written held before."""
        count = self._words[state.JOURNAL_COUNT // 8]
        if count:
            journal = (ctypes.c_uint64 * (2 * count)).from_address(self._words[state.JOURNAL // 8])
            for address, before in zip(journal[::2], journal[1::2], strict=True):
                self.machine.PHYSICAL.note(address, before.to_bytes(8, "little"))
            self._set(state.JOURNAL_COUNT, 0)


def coverage(program: Program) -> dict[str, bool]:
    """Which instructions of a specification have a handler."""
    known = {handler.instruction for handler in HANDLERS}
    return {name: name in known or i.family in known for name, i in program.instructions.items()}
