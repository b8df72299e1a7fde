"""Data movement and conversion.  spec/instructions/data_movement.isa"""

from __future__ import annotations

from fastmodel.compiler.primitives import signed
from fastmodel.decoded import first_register
from fastmodel.handlers.operands import DONE, change, copy, effective_address, set_register
from fastmodel.handlers.parameters import SECOND_WIDTH, WIDTH
from fastmodel.handlers.registry import KEPT, ONE_SIZE, SIZES, SIZES_16_UP, Widths, handles

EXTENSIONS: tuple[Widths, ...] = tuple((to, from_) for to in (16, 32, 64) for from_ in (8, 16))
ADDRESSES: tuple[Widths, ...] = ((16, None), (32, None), (64, None))


@handles("MOV", template=copy, widths=SIZES, forms="rr ri rm mr mi", flags=KEPT)
@handles("MOVZX", template=copy, widths=EXTENSIONS, forms="rr rm", flags=KEPT)
def same(b: int) -> int:
    """The value itself; operands are read zero-extended."""
    return b


@handles("MOVSX", template=copy, widths=EXTENSIONS, forms="rr rm", flags=KEPT)
@handles("MOVSXD", template=copy, widths=((16, 16), (32, 32), (64, 32)), forms="rr rm", flags=KEPT)
def sign_extended(b: int) -> int:
    """The value sign-extended."""
    return signed(SECOND_WIDTH, b)


@handles("LEA", widths=ADDRESSES, forms="rm", flags=KEPT)
def load_effective_address(state: int, u: int) -> int:
    """first := the address of the second operand."""
    set_register(first_register(state, u), effective_address(state, u))
    return DONE


@handles("CWDE", template=change, widths=ONE_SIZE[1:3], forms="r", flags=KEPT)
@handles("CDQE", template=change, widths=ONE_SIZE[3:], forms="r", flags=KEPT)
def low_half_extended(state: int, a: int) -> int:  # noqa: ARG001  an operation is given the state
    """The low half sign-extended."""
    return signed(WIDTH // 2, a)


@handles("CDQ", template=copy, widths=SIZES_16_UP[:2], forms="rr", flags=KEPT)
@handles("CQO", template=copy, widths=SIZES_16_UP[2:], forms="rr", flags=KEPT)
def sign_of(b: int) -> int:
    """All bits as the sign."""
    return signed(WIDTH, b) >> 63


@handles("NOP", flags=KEPT)
@handles("NOP_OPERAND", widths=ONE_SIZE[1:], forms="r m")
@handles("PREFETCHNTA", widths=[(None,)], forms="m")
@handles("PREFETCHT0", widths=[(None,)], forms="m")
@handles("PREFETCHT1", widths=[(None,)], forms="m")
@handles("PREFETCHT2", widths=[(None,)], forms="m")
@handles("PREFETCHW", widths=[(None,)], forms="m")
@handles("LFENCE", widths=[(32,)], forms="r")
@handles("MFENCE", widths=[(32,)], forms="r")
@handles("SFENCE", widths=[(32,)], forms="r")
def no_operation(state: int, u: int) -> int:  # noqa: ARG001  every handler is given these
    """Nothing; an operand is not accessed."""
    return DONE
