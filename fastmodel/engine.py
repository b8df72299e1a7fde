"""The fast engine of a machine: runs its instructions as long as they are plain ones."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

from fastmodel import backends, controls, state
from fastmodel.block import Block, Shared
from fastmodel.rows import ROW_WORDS
from grammar.ir import Program

MOST_BLOCKS = 16
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

    `backend` is "native" or "python"; by default native code is used if llvmlite is installed. What was translated is
    kept until the reference forgets translations, or for another CR3, EPT pointer or privilege level; decoded
    instructions until the bytes they came from have changed. Code that runs for long is translated, unless `translates`
    is false.
    """

    def __init__(
        self, program: Program, machine: Any, backend: str | None = None, *, translates: bool = True
    ) -> None:
        self.machine = machine
        self.reason = Reason.BUDGET
        self._backend = backends.choose(backend)
        self._shared = Shared(program, machine.PHYSICAL, self._backend)
        self._translates = translates
        self._blocks: dict[tuple[int, int, int], Block] = {}
        self.times_emptied = 0  # of the blocks: an earlier one is no more
        self._caches = [f"cache_{f.name}" for f in program.functions.values() if f.cached]

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
        block = self.enter_space()
        self._copy_in(block)
        done = budget - self._execute(block, budget)
        self._copy_out(block, done)
        reason = Reason(block.get(state.REASON))
        self.reason = Reason.UNSUPPORTED_STATE if reason is Reason.BUDGET and done < steps else reason
        return done

    def address(self, entry: str) -> int:
        """Where a function of the native backend lies, for other native code."""
        assert isinstance(self._backend, backends.NativeBackend)
        return self._backend.address(entry)

    def run_guest(self, steps: int) -> int:
        """As `run`, if a guest is running; the VMM is the reference's."""
        return self.run(steps) if self.machine.IN_NON_ROOT else 0

    def execute_one(self) -> bool:
        """Executes one instruction; false if it is refused, and then nothing happened."""
        return self.run(1) == 1

    def run_cases(self, rows: Buffer) -> None:
        """Runs many short cases in one call; each begins with the machine as it is, and changes nothing of it.

        `rows` is a writable buffer of unsigned 64-bit words, ROW_WORDS for each case: an `array("Q")`, or an array of
        NumPy. What the words of a row are is said in rows.py; what a run returns stands in their place. Raises
        ValueError if the buffer does not hold whole rows.
        """
        view = memoryview(rows).cast("B")
        count, rest = divmod(view.nbytes, 8 * ROW_WORDS)
        if rest or view.readonly:
            raise ValueError(f"rows must be a writable buffer of {8 * ROW_WORDS} bytes a case")
        if count == 0:
            return
        m, block = self.machine, self.enter_space()
        journal = block.get(state.JOURNAL)
        block.set(state.REFUSED_FLAGS, controls.refused_flags(m) if controls.is_supported(m) else MASK_64)
        block.set(state.CASE_STEPS, controls.budget(m, MOST_STEPS))
        block.set(state.JOURNAL, self._shared.journal)
        block.forget_translations()
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        self._backend.run_cases(block.address, address, count)
        block.set(state.JOURNAL, journal)
        block.set(state.JOURNAL_LIMIT, state.JOURNAL_LENGTH)
        block.forget_translations()

    def _execute(self, block: Block, budget: int) -> int:
        """Runs in pieces, after each of which the translator takes a sample; returns how many instructions are left."""
        if block.translator is None:
            return self._backend.run(block.address, budget)
        while budget:
            until_sample = block.get(state.UNTIL_SAMPLE)
            piece = min(budget, until_sample)
            left = self._backend.run(block.address, piece)
            budget -= piece - left
            until_sample -= piece - left
            block.set(state.UNTIL_SAMPLE, until_sample or block.translator.sample())
            if left:
                break
        return budget

    # --- the state block ---

    def enter_space(self) -> Block:
        """The block of the address space that the machine is in, with what may be remembered of it."""
        m = self.machine
        space = m.CR3, controls.ept_pointer(m), controls.mode(m)
        block = self._blocks.get(space)
        if block is None:
            block = self._blocks[space] = self._new_block(space)
        remembered = [getattr(m, name).version for name in self._caches]
        if block.remembered != remembered:
            block.forget_translations()
            block.remembered = remembered
        return block

    def _new_block(self, space: tuple[int, int, int]) -> Block:
        if len(self._blocks) == MOST_BLOCKS:
            self._blocks.clear()
            self.times_emptied += 1
            self._shared.unmark_code_pages()
        block = Block(self._shared)
        block.translator = self._backend.translator(block.address) if self._translates else None
        for offset, value in zip((state.CR3, state.EPT_POINTER, state.MODE), space, strict=True):
            block.set(offset, value)
        return block

    def _copy_in(self, block: Block) -> None:
        m, words = self.machine, block.words
        words[: len(m.GPR)] = m.GPR
        words[state.RIP // 8] = m.RIP
        words[state.RFLAGS // 8] = m.RFLAGS

    def _copy_out(self, block: Block, done: int) -> None:
        m, words = self.machine, block.words
        m.GPR[:] = words[: len(m.GPR)]
        m.RIP = m.NEXT_RIP = words[state.RIP // 8]
        m.RFLAGS = words[state.RFLAGS // 8]
        m.TSC = m.TSC + done & MASK_64
        if controls.counts_down(m):
            m.PREEMPTION_TIMER_VALUE -= done
        self._hand_over_journal(block)

    def _hand_over_journal(self, block: Block) -> None:
        """Tells a memory that can be put back what the words that were written held before."""
        count = block.get(state.JOURNAL_COUNT)
        if count:
            journal = (ctypes.c_uint64 * (2 * count)).from_address(self._shared.journal)
            for address, before in zip(journal[::2], journal[1::2], strict=True):
                self.machine.PHYSICAL.note(address, before.to_bytes(8, "little"))
            block.set(state.JOURNAL_COUNT, 0)
