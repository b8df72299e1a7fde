"""The journal: what words of memory held before they were written, for memories that can be put back.

While there is a journal, no page enters the table for writes, so that every store comes by here.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import get, load, put, set_field
from fastmodel.state import JOURNAL, JOURNAL_COUNT, JOURNAL_LIMIT, MEMORY


def note_write(state: int, host: int, size: int) -> bool:
    """Notes the words that `size` bytes at an address of this process lie in; false if the journal is full."""
    journal = get(64, state + JOURNAL)
    if journal == 0:
        return True
    word = host & ~7
    while word < host + size:
        count = get(64, state + JOURNAL_COUNT)
        if count >= get(64, state + JOURNAL_LIMIT):
            return False
        set_field(64, journal + count * 16, word - get(64, state + MEMORY))
        set_field(64, journal + count * 16 + 8, load(64, word))
        put(64, state + JOURNAL_COUNT, count + 1)
        word = word + 8
    return True
