"""The status flags, kept lazily in two words.

RESULT is the last result, sign-extended: ZF is whether it is 0, SF its sign, PF the parity of its low byte. CARRIES
holds CF in bit 63, CF ^ OF in bit 62 and AF in bit 3; bits 8 and 9 invert SF and PF, so that every combination of
flags can be represented.  SDM 1 3.4.3.1
"""

from __future__ import annotations

from fastmodel.compiler.primitives import bit, get, put, shift_right, signed, slow
from fastmodel.handlers.parameters import WIDTH
from fastmodel.state import CARRIES, RESULT, RFLAGS

CF = 0x001
PF = 0x004
AF = 0x010
ZF = 0x040
SF = 0x080
OF = 0x800
RF = 0x1_0000
STATUS_FLAGS = CF | PF | AF | ZF | SF | OF

CF_AND_OF = -1 << 62  # bits 63 and 62 of CARRIES
AUXILIARY = 8  # bit 3

# Bit n is 1 if n has an even number of ones.
EVEN_NIBBLES = 0x9669


# --- setting them ---


def set_result(state: int, result: int) -> int:
    """ZF, SF and PF of a result; the other flags must be set after this."""
    put(64, state + RESULT, signed(WIDTH, result))
    return 0


def set_arithmetic_flags(state: int, result: int, carries: int) -> int:
    """All flags; bit n of `carries` is the carry or borrow out of bit n."""
    set_result(state, result)
    put(64, state + CARRIES, ((carries << (64 - WIDTH)) & CF_AND_OF) | (carries & AUXILIARY))
    return 0


def set_flags_but_carry(state: int, result: int, carries: int) -> int:
    """As `set_arithmetic_flags`, but CF stays as it is."""
    before = get(64, state + CARRIES)
    set_arithmetic_flags(state, result, carries)
    after = get(64, state + CARRIES)
    put(64, state + CARRIES, after ^ (((after ^ before) >> 63) & CF_AND_OF))
    return 0


def set_logic_flags(state: int, result: int) -> int:
    """The flags of a logical operation: CF, OF and (undefined) AF are 0."""
    set_result(state, result)
    put(64, state + CARRIES, 0)
    return 0


def set_result_flags(state: int, result: int, carry: int, overflow: int) -> int:
    """All flags, from a result, CF and OF; AF (undefined) is 0."""
    set_result(state, result)
    put(64, state + CARRIES, (carry << 63) | ((carry ^ overflow) << 62))
    return 0


def set_carry_flag(state: int, carry: int) -> int:
    """CF alone: if it changes, so does CF ^ OF."""
    before = get(64, state + CARRIES)
    put(64, state + CARRIES, before ^ (((before >> 63) ^ -carry) & CF_AND_OF))
    return 0


def set_carry_and_overflow(state: int, carry: int, overflow: int) -> int:
    """CF and OF alone."""
    before = get(64, state + CARRIES)
    put(64, state + CARRIES, (before & ~CF_AND_OF) | (carry << 63) | ((carry ^ overflow) << 62))
    return 0


@slow
def replace_status_flags(state: int, mask: int, flags: int) -> int:
    """Some flags: those in `mask`, which are laid out as in RFLAGS."""
    return set_status_flags(state, (status_flags(state) & ~mask) | flags)


def set_status_flags(state: int, flags: int) -> int:
    """All status flags as they stand in `flags`, which is laid out as RFLAGS."""
    carry = flags & 1
    parity = (flags >> 2) & 1
    zero = (flags >> 6) & 1
    sign = (flags >> 7) & 1
    overflow = (flags >> 11) & 1
    put(64, state + RESULT, 1 - zero)  # 0 has even parity, 1 has not; neither is negative
    put(
        64,
        state + CARRIES,
        (carry << 63)
        | ((carry ^ overflow) << 62)
        | ((parity ^ zero) << 9)
        | (sign << 8)
        | ((flags >> 1) & 8),
    )
    return 0


# --- reading them: each is 0 or 1 ---


def carry_flag(state: int) -> int:
    """CF."""
    return shift_right(get(64, state + CARRIES), 63)


def overflow_flag(state: int) -> int:
    """OF."""
    carries = get(64, state + CARRIES)
    return shift_right(carries ^ (carries << 1), 63)


def zero_flag(state: int) -> int:
    """ZF."""
    return bit(get(64, state + RESULT) == 0)


def sign_flag(state: int) -> int:
    """SF."""
    return shift_right(get(64, state + RESULT), 63) ^ ((get(64, state + CARRIES) >> 8) & 1)


def parity_flag(state: int) -> int:
    """PF."""
    result = get(64, state + RESULT)
    even = (EVEN_NIBBLES >> ((result ^ (result >> 4)) & 15)) & 1
    return even ^ ((get(64, state + CARRIES) >> 9) & 1)


def status_flags(state: int) -> int:
    """All status flags, laid out as in RFLAGS."""
    auxiliary = (get(64, state + CARRIES) >> 3) & 1
    low = carry_flag(state) | (parity_flag(state) << 2) | (auxiliary << 4)
    return low | (zero_flag(state) << 6) | (sign_flag(state) << 7) | (overflow_flag(state) << 11)


def rflags(state: int) -> int:
    """The whole of RFLAGS."""
    return (get(64, state + RFLAGS) & ~STATUS_FLAGS) | status_flags(state)


# --- conditions ---


def condition(state: int, number: int) -> int:
    """Whether the condition with this number is met; an odd number negates the one before it.  SDM 2D B.1.4.7"""
    pair = number >> 1
    if pair == 0:
        met = overflow_flag(state)
    elif pair == 1:
        met = carry_flag(state)
    elif pair == 2:
        met = zero_flag(state)
    elif pair == 3:
        met = carry_flag(state) | zero_flag(state)
    elif pair == 4:
        met = sign_flag(state)
    elif pair == 5:
        met = parity_flag(state)
    elif pair == 6:
        met = sign_flag(state) ^ overflow_flag(state)
    else:
        met = (sign_flag(state) ^ overflow_flag(state)) | zero_flag(state)
    return met ^ (number & 1)
