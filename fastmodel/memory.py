"""The guest's memory as the handlers use it: linear addresses → addresses in this process.

What was translated before is found in two tables, one for reads and one for writes, and in two wider ones if it is
not there any more. Pages with decoded instructions never enter those for writes, so that a store to them is noticed.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, not_zero, put, set_field, shift_right, slow
from fastmodel.journal import note_write
from fastmodel.paging import READ, WRITE, translate
from fastmodel.state import (
    CODE_PAGES,
    CODE_WRITE,
    CODE_WRITES,
    FIRST_GENERATION,
    FLAG_WRITE,
    JOURNAL,
    MEMORY,
    MEMORY_ACCESS,
    PAGE_CROSSING,
    READ_TLB,
    REASON,
    TLB_ENTRIES,
    TLB_ENTRY,
    WIDE_BYTES,
    WIDE_ENTRIES,
    WIDE_GENERATION,
    WIDE_READS,
    WIDE_WRITES,
    WRITE_TLB,
)


def read_address(state: int, linear: int, size: int) -> int:
    """Where `size` bytes at a linear address can be read; 0 if the reference must do it, with REASON set."""
    entry = state + READ_TLB + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    if get(64, entry) == shift_right(linear + size - 1, 12):
        return not_zero(get(64, entry + 8) + linear)
    return read_address_slowly(state, linear, size)


def write_address(state: int, linear: int, size: int) -> int:
    """Where `size` bytes at a linear address can be written; 0 if the reference must do it, with REASON set."""
    entry = state + WRITE_TLB + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    if get(64, entry) == shift_right(linear + size - 1, 12):
        return not_zero(get(64, entry + 8) + linear)
    return write_address_slowly(state, linear, size)


@slow
def read_address_slowly(state: int, linear: int, size: int) -> int:
    """Looks in the wide table, or walks the page tables; remembers the result."""
    host = known_widely(state, get(64, state + WIDE_READS), linear, size)
    if host == 0:
        physical = translate_within_page(state, linear, size, READ)
        if physical < 0:
            return 0
        host = get(64, state + MEMORY) + physical
        remember_widely(state, get(64, state + WIDE_READS), linear, host)
    return remember(state + READ_TLB, linear, host)


@slow
def write_address_slowly(state: int, linear: int, size: int) -> int:
    """As `read_address_slowly`; refuses pages with decoded instructions."""
    host = known_widely(state, get(64, state + WIDE_WRITES), linear, size)
    if host != 0:
        return remember(state + WRITE_TLB, linear, host)
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
    remember_widely(state, get(64, state + WIDE_WRITES), linear, host)
    return remember(state + WRITE_TLB, linear, host)


def translate_within_page(state: int, linear: int, size: int, access: int) -> int:
    """The host-physical address of an operand that lies in one page; -1, with REASON set, if it cannot be had."""
    if (linear & 0xFFF) + size > 0x1000:
        put(64, state + REASON, PAGE_CROSSING)
        return -1
    physical = translate(state, linear, access)
    if physical < 0 and get(64, state + REASON) != FLAG_WRITE:
        put(64, state + REASON, MEMORY_ACCESS)
    return physical


# --- the tables ---


def remember(table: int, linear: int, host: int) -> int:
    """Enters a page into a table of the block; returns `host`."""
    entry = table + (shift_right(linear, 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY
    put(64, entry, shift_right(linear, 12))
    put(64, entry + 8, host - linear)
    return host


def known_widely(state: int, table: int, linear: int, size: int) -> int:
    """Where an operand is by a wide table; 0 if it is not known."""
    entry = table + (shift_right(linear, 12) & (WIDE_ENTRIES - 1)) * TLB_ENTRY
    if field(64, entry) == shift_right(linear + size - 1, 12) | get(64, state + WIDE_GENERATION):
        return field(64, entry + 8) + linear
    return 0


def remember_widely(state: int, table: int, linear: int, host: int) -> int:
    """Enters a page into a wide table."""
    entry = table + (shift_right(linear, 12) & (WIDE_ENTRIES - 1)) * TLB_ENTRY
    set_field(64, entry, shift_right(linear, 12) | get(64, state + WIDE_GENERATION))
    set_field(64, entry + 8, host - linear)
    return 0


# --- forgetting ---


@slow
def forget_writes(state: int) -> int:
    """Empties the tables for writes; while there is a journal, they are empty."""
    if get(64, state + JOURNAL) == 0:
        empty(state + WRITE_TLB)
        forget_widely(state)
    return 0


@slow
def forget_translations(state: int) -> int:
    """Empties all tables."""
    empty(state + READ_TLB)
    forget_widely(state)
    return forget_writes(state)


def empty(table: int) -> int:
    """Empties a table of the block."""
    entry = table
    while entry < table + TLB_ENTRIES * TLB_ENTRY:
        put(64, entry, -1)
        entry = entry + TLB_ENTRY
    return 0


def forget_widely(state: int) -> int:
    """Empties the wide tables: entries of an earlier generation do not count. Page numbers have 52 bits."""
    generation = get(64, state + WIDE_GENERATION) + FIRST_GENERATION
    if generation == 0:
        generation = FIRST_GENERATION
        entry = get(64, state + WIDE_READS)
        while entry < get(64, state + WIDE_READS) + WIDE_BYTES:
            set_field(64, entry, 0)
            entry = entry + TLB_ENTRY
    put(64, state + WIDE_GENERATION, generation)
    return 0
