"""Linear → host-physical addresses: guest paging and EPT, for the plain cases only.

Whatever would fault or exit, or is unusual, gives -1, and the reference does the instruction. Nothing is written but
accessed and dirty flags of the guest's own entries, by instructions that run alone: if one is refused after all, they
are cleared again.  SDM 3A 4.5 to 4.8, 3C 29.3
"""

from __future__ import annotations

from fastmodel.compiler.primitives import below, field, get, load, put, shift_right, signed, slow, store
from fastmodel.journal import note_write
from fastmodel.state import (
    ALONE,
    CODE_PAGES,
    CR3,
    EPT_POINTER,
    FLAG_WRITE,
    MEMORY,
    MEMORY_SIZE,
    MODE,
    MOST_USE_NOTES,
    NO_EXECUTE,
    REASON,
    SMAP,
    SMEP,
    USE_NOTES,
    USER,
    USES,
    WALK_ENTRIES,
    WALK_PLACES,
    WRITE_PROTECT,
)

# Kinds of access, as the bits they need in an EPT entry. Pages that can only be executed are left to the reference.
READ = 1
WRITE = 3
EXECUTE = 5

FRAME = 0xFF_FFFF_F000  # bits 39..12 of an entry
RESERVED = 0xF_FF00_0000_0000  # bits 51..40, beyond MAXPHYADDR

# Guest entries.
PRESENT = 1
WRITABLE = 2
USER_PAGE = 4
ACCESSED = 0x20
DIRTY = 0x40
LARGE = 0x80  # in EPT entries too
EXECUTE_DISABLE = -1 << 63

# EPT.
EPT_ACCESSED_DIRTY = 0x40  # in the EPT pointer
EPT_NOT_IN_TABLES = 0xF8  # bits that are clear in an entry that points to a table
EPT_ACCESSED = 0x100
EPT_DIRTY = 0x200
EPT_MEMORY_TYPES = 0b111_0011  # the types that exist, by number


@slow
def translate(state: int, linear: int, access: int) -> int:
    """The host-physical address of a linear one; sets accessed and dirty flags."""
    if signed(48, linear) != linear:
        return -1
    table = get(64, state + CR3) & FRAME
    rights = -1
    executable = 1
    shift = 39
    level = 24
    while True:
        place = table | ((shift_right(linear, shift) & 511) << 3)
        entry = load_table_entry(state, place, level)
        if not is_plain(state, entry, shift):
            return -1
        rights = rights & entry
        executable = executable & ~shift_right(entry, 63)
        if shift == 12 or entry & LARGE != 0:
            break
        table = entry & FRAME
        shift = shift - 9
        level = level - 8
    if not permits(get(64, state + MODE), rights, executable, access):
        return -1
    offset = (1 << shift) - 1
    physical = ept_translate(state, (entry & FRAME & ~offset) | (linear & offset), access)
    if physical < 0 or not mark_used(state, level, access):
        return -1
    return physical


def load_table_entry(state: int, place: int, level: int) -> int:
    """Reads an entry and remembers where it is, for `mark_used`; 0, which is not present, if it cannot be read."""
    access = READ
    if get(64, state + EPT_POINTER) & EPT_ACCESSED_DIRTY != 0:
        access = WRITE
    physical = ept_translate(state, place, access)
    if physical < 0:
        return 0
    host = get(64, state + MEMORY) + physical
    put(64, state + WALK_ENTRIES + level, host)
    put(64, state + WALK_PLACES + level, place)
    return load(64, host)


def is_plain(state: int, entry: int, shift: int) -> bool:
    """Whether an entry is present and has no bit set that must be clear."""
    reserved = RESERVED
    if get(64, state + MODE) & NO_EXECUTE == 0:
        reserved = RESERVED | EXECUTE_DISABLE
    if entry & PRESENT == 0 or entry & reserved != 0:
        return False
    if entry & LARGE != 0 and shift != 12:
        return shift != 39 and entry & ((1 << shift) - 0x2000) == 0
    return True


def permits(mode: int, rights: int, executable: int, access: int) -> bool:
    """Whether the bits that all entries have in common allow an access.  SDM 3A 4.6.1"""
    if access == EXECUTE and executable == 0:
        return False
    if mode & USER != 0:
        return rights & USER_PAGE != 0 and (access != WRITE or rights & WRITABLE != 0)
    if rights & USER_PAGE != 0 and mode & (SMEP if access == EXECUTE else SMAP) != 0:
        return False
    return access != WRITE or rights & WRITABLE != 0 or mode & WRITE_PROTECT == 0


def mark_used(state: int, leaf: int, access: int) -> bool:
    """Sets the accessed flags of the last walk and the leaf's dirty flag; false if the reference must do it."""
    level = 24
    while level >= leaf:
        host = get(64, state + WALK_ENTRIES + level)
        entry = load(64, host)
        used = entry | ACCESSED
        if level == leaf and access == WRITE:
            used = used | DIRTY
        if used != entry:
            if get(64, state + ALONE) == 0:
                put(64, state + REASON, FLAG_WRITE)
                return False
            place = ept_translate(state, get(64, state + WALK_PLACES + level), WRITE)
            if place < 0 or field(8, get(64, state + CODE_PAGES) + shift_right(place, 12)) != 0:
                return False
            if not note_write(state, host, 8):
                return False
            note_use(state, host, entry)
            store(64, host, used)
        level = level - 8
    return True


def note_use(state: int, host: int, entry: int) -> int:
    """Notes what an entry was before a flag is set in it."""
    count = get(64, state + USES)
    note = state + USE_NOTES + (count & (MOST_USE_NOTES - 1)) * 16
    put(64, note, host)
    put(64, note + 8, entry)
    put(64, state + USES, count + 1)
    return 0


def unmark_used(state: int, uses: int) -> int:
    """Clears the flags again that were set since there were `uses`; these are at most MOST_USE_NOTES."""
    while get(64, state + USES) != uses:
        count = get(64, state + USES) - 1
        note = state + USE_NOTES + (count & (MOST_USE_NOTES - 1)) * 16
        store(64, get(64, note), get(64, note + 8))
        put(64, state + USES, count)
    return 0


def ept_translate(state: int, address: int, access: int) -> int:
    """The host-physical address of a guest-physical one."""
    pointer = get(64, state + EPT_POINTER)
    size = get(64, state + MEMORY_SIZE)
    if pointer == 0:
        return address if below(address, size) else -1
    table = pointer & FRAME
    shift = 39
    while True:
        place = table | ((shift_right(address, shift) & 511) << 3)
        if not below(place, size):
            return -1
        entry = load(64, get(64, state + MEMORY) + place)
        if not ept_is_plain(entry, shift, access, pointer & EPT_ACCESSED_DIRTY):
            return -1
        if shift == 12 or entry & LARGE != 0:
            break
        table = entry & FRAME
        shift = shift - 9
    offset = (1 << shift) - 1
    physical = (entry & FRAME & ~offset) | (address & offset)
    return physical if below(physical, size) else -1


def ept_is_plain(entry: int, shift: int, access: int, sets_flags: int) -> bool:
    """Whether an EPT entry permits an access, has no bit set that must be clear, and no flag to be set."""
    if entry & access != access or entry & RESERVED != 0:
        return False
    if sets_flags != 0 and entry & EPT_ACCESSED == 0:
        return False
    if shift != 12 and entry & LARGE == 0:
        return entry & EPT_NOT_IN_TABLES == 0
    if sets_flags != 0 and access == WRITE and entry & EPT_DIRTY == 0:
        return False
    if shift == 39 or entry & ((1 << shift) - 0x1000) != 0:
        return False
    return (EPT_MEMORY_TYPES >> (shift_right(entry, 3) & 7)) & 1 != 0
