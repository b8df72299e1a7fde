"""Single flags, and the flags in AH.  spec/instructions/flag_control.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import get, put
from fastmodel.handlers.flags import (
    AF,
    CF,
    PF,
    SF,
    ZF,
    carry_flag,
    replace_status_flags,
    rflags,
    set_carry_flag,
)
from fastmodel.handlers.operands import DONE
from fastmodel.handlers.registry import handles
from fastmodel.state import AH, RFLAGS

DF = 0x400
IN_AH = SF | ZF | AF | PF | CF


@handles("CLC")
def clear_carry(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """CF := 0."""
    set_carry_flag(state, 0)
    return DONE


@handles("STC")
def set_carry(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """CF := 1."""
    set_carry_flag(state, 1)
    return DONE


@handles("CMC")
def complement_carry(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """CF := not CF."""
    set_carry_flag(state, 1 - carry_flag(state))
    return DONE


@handles("CLD")
def clear_direction(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """DF := 0."""
    put(64, state + RFLAGS, get(64, state + RFLAGS) & ~DF)
    return DONE


@handles("STD")
def set_direction(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """DF := 1."""
    put(64, state + RFLAGS, get(64, state + RFLAGS) | DF)
    return DONE


@handles("LAHF")
def load_flags(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """AH := the low byte of RFLAGS."""
    put(8, state + AH, rflags(state))
    return DONE


@handles("SAHF")
def store_flags(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """SF, ZF, AF, PF and CF := AH."""
    replace_status_flags(state, IN_AH, get(8, state + AH) & IN_AH)
    return DONE
