"""State blocks: what running code looks at, and what it remembers of an address space between two runs."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from fastmodel import backends, state
from fastmodel.decoded import END_OF_TRACE, REFUSE
from fastmodel.table import table_of
from grammar.ir import Program
from refmodel.memory import RecordingMemory

if TYPE_CHECKING:
    from fastmodel.translator.hotness import Translator

PAGE_SIZE = 0x1000


class Shared:
    """What all blocks of a machine point to.  Raises ValueError if memory is not a multiple of the page size."""

    def __init__(self, program: Program, memory: Any, backend: backends.Backend) -> None:
        if memory.size % PAGE_SIZE:
            raise ValueError(f"the memory's size, {memory.size:#x}, is not a multiple of the page size")
        self._keep: list[Any] = [memory]
        self._pages = memory.size // PAGE_SIZE
        self._code_pages = allocate(self._pages, self._keep)
        self.journal = allocate(16 * state.JOURNAL_LENGTH, self._keep)
        self.words = {
            state.MEMORY: memory.address,
            state.MEMORY_SIZE: memory.size,
            state.CODE_PAGES: self._code_pages,
            state.REFUSE_CODE: backend.codes[REFUSE],
            state.END_CODE: backend.codes[END_OF_TRACE],
            state.DECODE_TABLE: _make_table(program, backend, self._keep),
            state.JOURNAL: self.journal if isinstance(memory, RecordingMemory) else 0,
            state.JOURNAL_LIMIT: state.JOURNAL_LENGTH,
        }

    def unmark_code_pages(self) -> None:
        """When no block has decoded instructions any more."""
        ctypes.memset(self._code_pages, 0, self._pages)


class Block:
    """One state block, with translations and decoded instructions of its own.  `words` are its 64-bit words."""

    def __init__(self, common: Shared) -> None:
        self._keep: list[Any] = [common]
        self.address = allocate(state.SIZE, self._keep)
        self.words = (ctypes.c_uint64 * (state.SIZE // 8)).from_address(self.address)
        for offset, value in common.words.items():
            self.set(offset, value)
        self.set(state.CODE_LIST, allocate(state.CODE_LIST_LENGTH * state.CODE_LIST_ENTRY, self._keep))
        self.set(state.TRACES, allocate(state.TRACE_SLOTS * state.TRACE_SLOT, self._keep))
        decoded = allocate(state.DECODED_BYTES, self._keep)
        for offset in (state.DECODED, state.DECODED_NEXT):
            self.set(offset, decoded)
        wide = allocate(state.WIDE_BYTES, self._keep)
        self.set(state.WIDE_READS, wide)
        self.set(state.WIDE_WRITES, wide + state.WIDE_BYTES // 2)
        self.set(state.DECODED_END, decoded + state.DECODED_BYTES)
        self.remembered: list[int] = []  # versions of what the reference remembered at the last run
        self.translator: Translator | None = None
        self.forget_translations()

    def get(self, offset: int) -> int:
        """The word at a byte offset, unsigned."""
        return self.words[offset // 8]

    def set(self, offset: int, value: int) -> None:
        """Writes a word."""
        self.words[offset // 8] = value

    def forget_translations(self) -> None:
        """Empties the tables of translations."""
        ctypes.memset(self.address + state.READ_TLB, 0xFF, state.SIZE - state.READ_TLB)
        generation = self.get(state.WIDE_GENERATION) + state.FIRST_GENERATION
        if generation >> 64:
            generation = state.FIRST_GENERATION
            ctypes.memset(self.get(state.WIDE_READS), 0, state.WIDE_BYTES)
        self.set(state.WIDE_GENERATION, generation)


def allocate(size: int, keep: list[Any]) -> int:
    """Memory, zero at first, that lives as long as `keep`; returns its address."""
    buffer = ctypes.create_string_buffer(size)
    keep.append(buffer)
    return ctypes.addressof(buffer)


def _make_table(program: Program, backend: backends.Backend, keep: list[Any]) -> int:
    """The decoder's table; returns its address."""
    table = table_of(program)
    address = allocate(len(table.words), keep)
    ctypes.memmove(address, table.at(address, backend.codes), len(table.words))
    return address
