"""The row of 64-bit words that is a short case, for the fast model and for the compiled reference.

The first words are the same before and after the run, the rest is a list of words of memory: before, what to write
before the case begins (code, operands, page-table entries); after, what the run changed.
"""

from __future__ import annotations

ROW_GPR = 0  # 16 of them
ROW_RIP = 16
ROW_RFLAGS = 17
ROW_STEPS = 18  # before: how many instructions to execute at most; after: how many were
ROW_REASON = 19  # after: why it ended, a Reason
ROW_COUNT = 20  # how many words of memory are in the list
ROW_OTHER = 21  # after, from the compiled reference: 1 if other state changed than registers, memory and time
ROW_LIST = 22  # the list: host-physical address and content, little-endian
ROW_WORDS = 64

MOST_WORDS = (ROW_WORDS - ROW_LIST) // 2
