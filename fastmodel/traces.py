"""Traces: straight lines of decoded instructions, and when they are dropped.

Pages that instructions were decoded from are marked, so that a store to one is noticed (memory.py).
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, load, put, set_field, shift_right, slow
from fastmodel.decoded import ADDRESS, CODE, COUNT, DECODED_SIZE, IMMEDIATE, LINK, NEXT, TRACE_LIMIT, UNSEEN
from fastmodel.decoder import (
    DESCRIPTOR,
    ENDS_TRACE,
    FALLS_THROUGH,
    FLAGS,
    FLAGS_EFFECT,
    FUSED_BEFORE,
    MAY_FALL_THROUGH,
    decode_instruction,
)
from fastmodel.handlers.registry import REPLACED, SEEN
from fastmodel.memory import forget_writes
from fastmodel.paging import EXECUTE, translate
from fastmodel.state import (
    CODE_COUNT,
    CODE_KEPT,
    CODE_LIST,
    CODE_LIST_ENTRY,
    CODE_LIST_LENGTH,
    CODE_PAGES,
    DECODED,
    DECODED_END,
    DECODED_LAST,
    DECODED_NEXT,
    END_CODE,
    FLAG_WRITE,
    GENERATION,
    MEMORY,
    MEMORY_ACCESS,
    REASON,
    TRACE_SLOT,
    TRACE_SLOTS,
    TRACES,
)


@slow
def decode_trace(state: int, rip: int, limit: int) -> int:
    """Decodes up to `limit` instructions from `rip` on; returns the first, or 0 if it cannot be fetched.

    What is decoded is overwritten next time, unless the caller moves DECODED_NEXT to DECODED_LAST.
    """
    physical = translate(state, rip, EXECUTE)
    if physical < 0:
        if get(64, state + REASON) != FLAG_WRITE:
            put(64, state + REASON, MEMORY_ACCESS)
        return 0
    if get(64, state + DECODED_NEXT) + (TRACE_LIMIT + 1) * DECODED_SIZE > get(64, state + DECODED_END):
        forget_decoded(state)
    if limit != 1:
        list_code_page(state, shift_right(rip, 12), shift_right(physical, 12))
    first = get(64, state + DECODED_NEXT)
    put(64, state + DECODED_LAST, decode_line(state, first, rip, get(64, state + MEMORY) + physical, limit))
    return first


def decode_line(state: int, u: int, rip: int, host: int, limit: int) -> int:
    """Decodes instructions, from `host` on, until one ends the trace, the page ends or there are `limit`."""
    page_end = host - (rip & 0xFFF) + 0x1000
    put(64, state + FUSED_BEFORE, 0)
    unseen = u
    flow = FALLS_THROUGH
    count = 0
    while flow != ENDS_TRACE:
        count = count + 1
        set_field(64, u + ADDRESS, rip)
        set_field(64, u + LINK, 0)
        set_field(8, u + COUNT, count)
        if limit == 0 or host == page_end:
            set_field(64, u + CODE, get(64, state + END_CODE))
            set_field(64, u + IMMEDIATE, rip)
            set_field(8, u + COUNT, count - 1)
            flow = ENDS_TRACE
        else:
            flow = decode_instruction(state, u, host, page_end)
            unseen = note_flags(u, unseen, (get(64, state + DESCRIPTOR) >> FLAGS) & FLAGS_EFFECT)
            host = host + field(64, u + NEXT) - rip
            rip = field(64, u + NEXT)
            limit = limit - 1
            if flow == MAY_FALL_THROUGH:
                count = 0
        u = u + DECODED_SIZE
    return u


def note_flags(u: int, unseen: int, effect: int) -> int:
    """Notes what an instruction does with the flags; `unseen` is the first whose flags nothing has looked at yet.

    Returns that for the next instruction. Where all flags are replaced, those set since `unseen` count no more.
    """
    if effect == SEEN:
        return u + DECODED_SIZE
    if effect != REPLACED:
        return unseen
    while unseen != u:
        if field(64, unseen + UNSEEN) != 0:
            set_field(64, unseen + CODE, field(64, unseen + UNSEEN))
        unseen = unseen + DECODED_SIZE
    return u


def list_code_page(state: int, linear: int, physical: int) -> int:
    """Notes that instructions are decoded from a page, given by its linear and its host-physical number."""
    entry = get(64, state + CODE_LIST)
    end = entry + get(64, state + CODE_COUNT) * CODE_LIST_ENTRY
    while entry < end:
        if field(64, entry) == linear:
            return 0
        entry = entry + CODE_LIST_ENTRY
    if get(64, state + CODE_COUNT) == CODE_LIST_LENGTH:
        forget_decoded(state)
        entry = get(64, state + CODE_LIST)
    set_field(64, entry, linear)
    set_field(64, entry + 8, physical)
    put(64, state + CODE_COUNT, get(64, state + CODE_COUNT) + 1)
    return mark_code_page(state, physical)


def mark_code_page(state: int, physical: int) -> int:
    """Makes sure that stores to a page are noticed."""
    mark = get(64, state + CODE_PAGES) + physical
    if field(8, mark) != 0:
        return 0
    set_field(8, mark, 1)
    return forget_writes(state)


@slow
def forget_decoded(state: int) -> int:
    """Drops all decoded instructions."""
    entry = get(64, state + CODE_LIST)
    end = entry + get(64, state + CODE_COUNT) * CODE_LIST_ENTRY
    while entry < end:
        set_field(8, get(64, state + CODE_PAGES) + field(64, entry + 8), 0)
        entry = entry + CODE_LIST_ENTRY
    put(64, state + CODE_COUNT, 0)
    put(64, state + CODE_KEPT, 0)
    put(64, state + DECODED_NEXT, get(64, state + DECODED))
    generation = get(64, state + GENERATION) + (1 << 48)
    put(64, state + GENERATION, generation)
    if generation == 0:
        slot = get(64, state + TRACES)
        end = slot + TRACE_SLOTS * TRACE_SLOT
        while slot < end:
            set_field(64, slot + 8, 0)
            slot = slot + TRACE_SLOT
    return 0


# --- between two runs ---


def confirm_decoded(state: int) -> int:
    """Drops all decoded instructions if a page they came from lies elsewhere now, or holds something else."""
    if get(64, state + CODE_KEPT) != get(64, state + CODE_COUNT):
        return forget_decoded(state)
    entry = get(64, state + CODE_LIST)
    end = entry + get(64, state + CODE_COUNT) * CODE_LIST_ENTRY
    while entry < end:
        if not is_unchanged(state, entry):
            return forget_decoded(state)
        mark_code_page(state, field(64, entry + 8))
        entry = entry + CODE_LIST_ENTRY
    return 0


def keep_decoded(state: int) -> int:
    """Copies the pages that instructions were decoded from in this run."""
    entry = get(64, state + CODE_LIST) + get(64, state + CODE_KEPT) * CODE_LIST_ENTRY
    end = get(64, state + CODE_LIST) + get(64, state + CODE_COUNT) * CODE_LIST_ENTRY
    while entry < end:
        host = get(64, state + MEMORY) + (field(64, entry + 8) << 12)
        n = 0
        while n < 0x1000:
            set_field(64, entry + 16 + n, load(64, host + n))
            n = n + 8
        entry = entry + CODE_LIST_ENTRY
    put(64, state + CODE_KEPT, get(64, state + CODE_COUNT))
    return 0


def is_unchanged(state: int, entry: int) -> bool:
    """Whether a page of the list can be fetched from where it was, without setting flags, and holds what it held."""
    physical = field(64, entry + 8) << 12
    if translate(state, field(64, entry) << 12, EXECUTE) != physical:
        return False
    host = get(64, state + MEMORY) + physical
    n = 0
    while n < 0x1000:
        if field(64, entry + 16 + n) != load(64, host + n):
            return False
        n = n + 8
    return True
