"""The layout of a decoded instruction, `u` in the texts: what its routine needs, in the order it needs it.

Decoded instructions that follow each other in a straight line lie behind each other: a trace.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field
from fastmodel.state import GPR

CODE = 0  # the routine: its address, or its number in plain Python
IMMEDIATE = 8  # sign- or zero-extended; the target of a direct branch
DISPLACEMENT = 16  # of the memory operand
LINK = 24  # of a direct branch: the decoded instruction at its target, 0 if not known
UNSEEN = LINK  # of others: the routine that leaves the flags alone, 0 if there is none
ADDRESS = 32  # RIP of this instruction
NEXT = 40  # RIP of the next
FIRST = 48  # 8 bits each: offset in the state block of the first register operand
SECOND = 49  # of the second
BASE = 50  # of the memory operand's registers
INDEX = 51
SCALE = 52  # how far the index is shifted
COUNT = 53  # instructions since the last branch of the trace, this one included
EXTRA = 54  # the number of the condition
REPEAT = 55  # the prefix F2 or F3, 0 if there is none
DECODED_SIZE = 64

TRACE_LIMIT = 32  # instructions in a trace at most

# The routines that belong to no handler, by name: loop.py.
REFUSE = "refuse"
END_OF_TRACE = "end_of_trace"


def first_register(state: int, u: int) -> int:
    """The address of the first operand, a register."""
    return state + GPR + field(8, u + FIRST)


def second_register(state: int, u: int) -> int:
    """The address of the second operand, a register."""
    return state + GPR + field(8, u + SECOND)
