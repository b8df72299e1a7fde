"""Instructions that ask the status flags, other than branches.  spec/instructions/conditional.isa

The condition is not specialised: its number is in the decoded instruction.
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field
from fastmodel.decoded import EXTRA
from fastmodel.handlers.flags import condition
from fastmodel.handlers.operands import (
    DONE,
    REFUSED,
    first_value,
    operand_to_read,
    operand_to_write,
    second_value,
    set_first,
)
from fastmodel.handlers.registry import SIZES_16_UP, handles


@handles("SET{cc}", widths=[(8,)], forms="r m")
def set_if(state: int, u: int) -> int:
    """first := 1 if the condition is met, otherwise 0."""
    host = operand_to_write(state, u)
    if host == 0:
        return REFUSED
    set_first(state, u, host, condition(state, field(8, u + EXTRA)))
    return DONE


@handles("CMOV{cc}", widths=SIZES_16_UP, forms="rr rm")
def move_if(state: int, u: int) -> int:
    """first := second if the condition is met; the source is read, and 32 bits zero-extended, in any case."""
    host = operand_to_read(state, u)
    if host == 0:
        return REFUSED
    new = second_value(state, u, host)
    old = first_value(state, u, host)
    set_first(state, u, host, new if condition(state, field(8, u + EXTRA)) != 0 else old)
    return DONE
