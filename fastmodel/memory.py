"""The guest's memory as the handlers use it: linear addresses → addresses in this process.

What was translated before is found in two tables, one for reads and one for writes. Pages with decoded instructions
never enter the one for writes, so that a store to them is noticed.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, inlined, put, shift_right, slow
from fastmodel.journal import note_write
from fastmodel.paging import READ, WRITE, translate
from fastmodel.state import (
    CODE_PAGES,
    CODE_WRITE,
    CODE_WRITES,
    JOURNAL,
    MEMORY,
    MEMORY_ACCESS,
    PAGE_CROSSING,
    READ_TLB,
    REASON,
    TLB_ENTRIES,
    TLB_ENTRY,
    WRITE_TLB,
)


@inlined
def read_address(state: int, linear: int, size: int) -> int:
    """Where `size` bytes at a linear address can be read; 0 if the reference must do it, with REASON set."""
    entry = state + READ_TLB + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    if get(64, entry) == shift_right(linear + size - 1, 12):
        return get(64, entry + 8) + linear
    return read_address_slowly(state, linear, size)


@inlined
def write_address(state: int, linear: int, size: int) -> int:
    """Where `size` bytes at a linear address can be written; 0 if the reference must do it, with REASON set."""
    entry = state + WRITE_TLB + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    if get(64, entry) == shift_right(linear + size - 1, 12):
        return get(64, entry + 8) + linear
    return write_address_slowly(state, linear, size)


@slow
def read_address_slowly(state: int, linear: int, size: int) -> int:
    """Walks the page tables and remembers the result."""
    physical = translate_within_page(state, linear, size, READ)
    if physical < 0:
        return 0
    return remember(state + READ_TLB, linear, get(64, state + MEMORY) + physical)


@slow
def write_address_slowly(state: int, linear: int, size: int) -> int:
    """Walks the page tables, refuses pages with decoded instructions, and remembers the result."""
    physical = translate_within_page(state, linear, size, WRITE)
    if physical < 0:
        return 0
    is_code = field(8, get(64, state + CODE_PAGES) + shift_right(physical, 12))
    if is_code != 0 and get(64, state + CODE_WRITES) == 0:
        put(64, state + REASON, CODE_WRITE)
        return 0
    host = get(64, state + MEMORY) + physical
    if not note_write(state, host, size):
        put(64, state + REASON, MEMORY_ACCESS)
        return 0
    if is_code != 0 or get(64, state + JOURNAL) != 0:
        return host
    return remember(state + WRITE_TLB, linear, host)


def translate_within_page(state: int, linear: int, size: int, access: int) -> int:
    """The host-physical address of an operand that lies in one page; -1, with REASON set, if it cannot be had."""
    if (linear & 0xFFF) + size > 0x1000:
        put(64, state + REASON, PAGE_CROSSING)
        return -1
    physical = translate(state, linear, access)
    if physical < 0:
        put(64, state + REASON, MEMORY_ACCESS)
    return physical


def remember(table: int, linear: int, host: int) -> int:
    """Enters a page into a table of translations; returns `host`."""
    entry = table + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    put(64, entry, shift_right(linear, 12))
    put(64, entry + 8, host - linear)
    return host


@slow
def forget_writes(state: int) -> int:
    """Empties the table for writes; while there is a journal, it is empty."""
    if get(64, state + JOURNAL) == 0:
        empty(state + WRITE_TLB)
    return 0


@slow
def forget_translations(state: int) -> int:
    """Empties both tables."""
    empty(state + READ_TLB)
    return forget_writes(state)


def empty(table: int) -> int:
    """Empties a table of translations."""
    entry = table
    while entry < table + TLB_ENTRIES * TLB_ENTRY:
        put(64, entry, -1)
        entry = entry + TLB_ENTRY
    return 0
