"""The fast engine of a machine: runs its instructions as long as they are plain ones."""

from __future__ import annotations

import ctypes
from array import array
from enum import IntEnum
from typing import Any

from fastmodel import backends, state, table
from fastmodel.handlers import HANDLERS
from grammar.ir import Program
from refmodel.memory import RecordingMemory

PAGE_SIZE = 0x1000
MASK_64 = (1 << 64) - 1

# Control bits by position.  SDM 3A 2.2.1, 2.5, 3C 25.6
CR0_WP, CR0_AM, CR0_PG = 1 << 16, 1 << 18, 1 << 31
CR4_SMEP, CR4_SMAP, CR4_LA57, CR4_PKE = 1 << 20, 1 << 21, 1 << 12, 1 << 22
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
TF, IF, RF, AC = 1 << 8, 1 << 9, 1 << 16, 1 << 18
PRIMARY_INTERRUPT_WINDOW, PRIMARY_NMI_WINDOW, PRIMARY_MONITOR_TRAP = 1 << 2, 1 << 22, 1 << 27
PRIMARY_SECONDARY = 1 << 31
SECONDARY_EPT = 1 << 1
SECONDARY_APIC_ACCESSES, SECONDARY_MODE_BASED_EXECUTE = 1 << 0, 1 << 22
PIN_PREEMPTION_TIMER = 1 << 6
BLOCKING_BY_STI_OR_MOV_SS = 3
BLOCKING_BY_NMI = 8
CS, SS = 1, 2
RIGHTS_LONG = 1 << 13
DR7_ENABLED = 0xFF


class Reason(IntEnum):
    """Why a run ended."""

    BUDGET = state.BUDGET
    NO_HANDLER = state.NO_HANDLER
    MEMORY_ACCESS = state.MEMORY_ACCESS
    PAGE_CROSSING = state.PAGE_CROSSING
    BAD_TARGET = state.BAD_TARGET
    SYSTEM_FLAGS = state.SYSTEM_FLAGS
    UNSUPPORTED_STATE = state.UNSUPPORTED_STATE


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
        if isinstance(memory, RecordingMemory):
            self._set(state.JOURNAL, self._allocate(16 * state.JOURNAL_LENGTH))

    @property
    def backend(self) -> str:
        """Native or python."""
        return self._backend.name

    def run(self, steps: int) -> int:
        """Executes up to `steps` instructions; returns how many completed.

        If these are fewer, the next one is the reference's to do, and `reason` says why. Nothing of it has happened.
        """
        budget = self._budget(steps)
        if budget == 0 or not self._is_supported():
            self.reason = Reason.BUDGET if steps == 0 else Reason.UNSUPPORTED_STATE
            return 0
        self._copy_in()
        done: int = budget - self._backend.run(self._address, budget)
        self._copy_out(done)
        reason = Reason(self._words[state.REASON // 8])
        self.reason = Reason.UNSUPPORTED_STATE if reason is Reason.BUDGET and done < steps else reason
        return done

    def execute_one(self) -> bool:
        """Executes one instruction; false if it is refused, and then nothing happened."""
        return self.run(1) == 1

    # --- what a run may do ---

    def _budget(self, steps: int) -> int:
        """How many instructions may run before the preemption timer has run down."""
        if self._counts_down():
            steps = min(steps, self.machine.PREEMPTION_TIMER_VALUE)
        return steps

    def _counts_down(self) -> bool:
        m = self.machine
        return bool(m.IN_NON_ROOT and m.vmcs.PIN_BASED_CONTROLS & PIN_PREEMPTION_TIMER)

    def _is_supported(self) -> bool:
        """Whether nothing but instructions can happen, in 64-bit mode with 4-level paging."""
        m = self.machine
        return bool(
            m.CR0 & CR0_PG
            and m.EFER & EFER_LMA
            and m.SEGMENT_RIGHTS[CS] & RIGHTS_LONG
            and not m.CR4 & (CR4_LA57 | CR4_PKE)
            and not m.RFLAGS & TF
            and not (m.CR0 & CR0_AM and m.RFLAGS & AC and self._privilege() == 3)
            and not m.DR7 & DR7_ENABLED
            and m.ACTIVITY_STATE == 0
            and not m.INTERRUPTIBILITY & BLOCKING_BY_STI_OR_MOV_SS
            and not (m.IN_NON_ROOT and (self._exit_is_due() or self._has_unusual_translation()))
        )

    def _has_unusual_translation(self) -> bool:
        """Whether some pages are more than memory, or may be executed by some only."""
        vmcs = self.machine.vmcs
        unusual = SECONDARY_APIC_ACCESSES | SECONDARY_MODE_BASED_EXECUTE
        return bool(vmcs.PRIMARY_CONTROLS & PRIMARY_SECONDARY and vmcs.SECONDARY_CONTROLS & unusual)

    def _exit_is_due(self) -> bool:
        """Whether a VM exit is due at the next boundary between instructions, whatever they are."""
        m = self.machine
        primary = m.vmcs.PRIMARY_CONTROLS
        return bool(
            primary & PRIMARY_MONITOR_TRAP
            or (primary & PRIMARY_NMI_WINDOW and not m.INTERRUPTIBILITY & BLOCKING_BY_NMI)
            or (primary & PRIMARY_INTERRUPT_WINDOW and m.RFLAGS & IF)
        )

    def _privilege(self) -> int:
        """The CPL."""
        rights: int = self.machine.SEGMENT_RIGHTS[SS]
        return rights >> 5 & 3

    def _mode(self) -> int:
        """The bits of MODE."""
        m = self.machine
        bits = {
            state.USER: self._privilege() == 3,
            state.WRITE_PROTECT: m.CR0 & CR0_WP,
            state.NO_EXECUTE: m.EFER & EFER_NXE,
            state.SMEP: m.CR4 & CR4_SMEP,
            state.SMAP: m.CR4 & CR4_SMAP,
        }
        return sum(bit for bit, is_set in bits.items() if is_set)

    def _ept_pointer(self) -> int:
        """The EPT pointer, 0 if guest-physical addresses are not translated."""
        m = self.machine
        is_active = (
            m.IN_NON_ROOT
            and m.vmcs.PRIMARY_CONTROLS & PRIMARY_SECONDARY
            and m.vmcs.SECONDARY_CONTROLS & SECONDARY_EPT
        )
        pointer: int = m.vmcs.EPT_POINTER if is_active else 0
        return pointer

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

    def _copy_in(self) -> None:
        m, words = self.machine, self._words
        words[: len(m.GPR)] = m.GPR
        words[state.RIP // 8] = m.RIP
        words[state.RFLAGS // 8] = m.RFLAGS & ~RF  # which any instruction clears: there are no breakpoints
        words[state.CR3 // 8] = m.CR3
        words[state.EPT_POINTER // 8] = self._ept_pointer()
        words[state.MODE // 8] = self._mode()
        ctypes.memset(self._address + state.READ_TLB, 0xFF, state.SIZE - state.READ_TLB)

    def _copy_out(self, done: int) -> None:
        m, words = self.machine, self._words
        m.GPR[:] = words[: len(m.GPR)]
        m.RIP = m.NEXT_RIP = words[state.RIP // 8]
        m.RFLAGS = words[state.RFLAGS // 8] | (m.RFLAGS & RF if done == 0 else 0)
        m.TSC = m.TSC + done & MASK_64
        if self._counts_down():
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
