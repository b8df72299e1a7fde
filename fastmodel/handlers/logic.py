"""Logical operations.  spec/instructions/arithmetic.isa, logic.isa"""

from __future__ import annotations

from fastmodel.handlers.arithmetic import EQUALITIES, FORMS
from fastmodel.handlers.flags import set_logic_flags
from fastmodel.handlers.operands import change, compare, modify
from fastmodel.handlers.registry import KEPT, ONE_SIZE, REPLACED, SIZES, handles

SIGNS = ("E", "NE", "S", "NS", "LE", "G")


@handles("AND", template=modify, widths=SIZES, forms=FORMS, flags=REPLACED)
@handles("TEST", template=compare, widths=SIZES[2:], forms="rr", flags=REPLACED, fused=SIGNS)
@handles("TEST", template=compare, widths=SIZES[2:], forms="ri mr mi", flags=REPLACED)
@handles("TEST", template=compare, widths=SIZES[:1], forms="rr ri", flags=REPLACED, fused=EQUALITIES)
@handles("TEST", template=compare, widths=SIZES[:1], forms="mr mi")
@handles("TEST", template=compare, widths=SIZES[1:2], forms="rr ri mr mi", flags=REPLACED)
def logical_and(state: int, a: int, b: int) -> int:
    """a & b."""
    set_logic_flags(state, a & b)
    return a & b


@handles("OR", template=modify, widths=SIZES, forms=FORMS, flags=REPLACED)
def logical_or(state: int, a: int, b: int) -> int:
    """a | b."""
    set_logic_flags(state, a | b)
    return a | b


@handles("XOR", template=modify, widths=SIZES, forms=FORMS, flags=REPLACED)
def exclusive_or(state: int, a: int, b: int) -> int:
    """a ^ b."""
    set_logic_flags(state, a ^ b)
    return a ^ b


@handles("NOT", template=change, widths=ONE_SIZE, forms="r m", flags=KEPT)
def complement(state: int, a: int) -> int:  # noqa: ARG001  an operation is given the state
    """~a; no flag changes."""
    return ~a
