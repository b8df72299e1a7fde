"""Logical operations.  spec/instructions/arithmetic.isa, logic.isa"""

from __future__ import annotations

from fastmodel.handlers.arithmetic import FORMS
from fastmodel.handlers.flags import set_logic_flags
from fastmodel.handlers.operands import change, compare, modify
from fastmodel.handlers.registry import ONE_SIZE, SIZES, handles


@handles("AND", template=modify, widths=SIZES, forms=FORMS)
@handles("TEST", template=compare, widths=SIZES, forms="rr ri mr mi")
def logical_and(state: int, a: int, b: int) -> int:
    """a & b."""
    set_logic_flags(state, a & b)
    return a & b


@handles("OR", template=modify, widths=SIZES, forms=FORMS)
def logical_or(state: int, a: int, b: int) -> int:
    """a | b."""
    set_logic_flags(state, a | b)
    return a | b


@handles("XOR", template=modify, widths=SIZES, forms=FORMS)
def exclusive_or(state: int, a: int, b: int) -> int:
    """a ^ b."""
    set_logic_flags(state, a ^ b)
    return a ^ b


@handles("NOT", template=change, widths=ONE_SIZE, forms="r m")
def complement(state: int, a: int) -> int:  # noqa: ARG001  an operation is given the state
    """~a; no flag changes."""
    return ~a
