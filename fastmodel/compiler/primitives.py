"""The vocabulary of the restricted Python, and what each word means when the text runs as plain Python.

A text is a module of functions on `int` parameters. Every value is a signed 64-bit integer; `+ - * <<` and unary `-`
wrap, `>>` is arithmetic, comparisons are signed, and a shift amount counts modulo 64. Conditions are `bool`; a
function may return `int` or `bool`. Statements are assignments to a name, `if`, `while`, `break`, `continue`, `pass`,
`return` and calls; expressions are numbers, names, operators, comparisons, `and or not`, `a if c else b` and calls
of functions of a text or of the words below. A *routine* is a function of (state, place, spare) that is called
by way of a word in memory.

A name of a module may stand for a number, or be a `parameter`: a number or a function that is chosen when a function is
specialised. An `if` that only looks at such names is decided then, and only the branch taken is compiled. `//` is
for such numbers only.

Memory comes in three kinds that never overlap, so that the compiler may keep one in registers while another is
written: the state block (`get`, `put`), the guest's memory (`load`, `store`) and decoded instructions (`field`,
`set_field`). Addresses are those of the process; reads zero-extend. The width, in bits, must be a constant.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_WORDS = {8: ctypes.c_uint8, 16: ctypes.c_uint16, 32: ctypes.c_uint32, 64: ctypes.c_int64}


class Parameter:
    """Stands in a text for a number or function that a specialisation supplies."""

    def __init__(self, name: str) -> None:
        self.name = name


def parameter(name: str) -> Any:
    """Declares a parameter; the name must be that of the variable it is assigned to."""
    return Parameter(name)


def slow(function: Function) -> Function:
    """Marks a function that is called, and rarely; all others are compiled into each of their callers."""
    return function


def wrap(value: int) -> int:
    """The signed 64-bit integer that equals `value` modulo 2**64."""
    return (value + 0x8000_0000_0000_0000 & 0xFFFF_FFFF_FFFF_FFFF) - 0x8000_0000_0000_0000


def signed(width: int, value: int) -> int:
    """The low `width` bits, sign-extended."""
    sign = 1 << width - 1
    return (value & 2 * sign - 1 ^ sign) - sign


def unsigned(width: int, value: int) -> int:
    """The low `width` bits, zero-extended; for a width of 64 the value itself."""
    return value if width == 64 else value & (1 << width) - 1


def shift_right(value: int, amount: int) -> int:
    """A logical shift to the right; the amount counts modulo 64."""
    return wrap((value & 0xFFFF_FFFF_FFFF_FFFF) >> (amount & 63))


def below(left: int, right: int) -> bool:
    """Whether left < right as unsigned numbers."""
    return left & 0xFFFF_FFFF_FFFF_FFFF < right & 0xFFFF_FFFF_FFFF_FFFF


def not_zero(value: int) -> int:
    """The value, which the compiler may take for granted is not 0."""
    return value


def bit(condition: bool) -> int:
    """1 for true, 0 for false."""
    return int(condition)


def high_product(left: int, right: int) -> int:
    """Bits 127 to 64 of the product of two unsigned numbers."""
    return wrap((left & 0xFFFF_FFFF_FFFF_FFFF) * (right & 0xFFFF_FFFF_FFFF_FFFF) >> 64)


def signed_high_product(left: int, right: int) -> int:
    """Bits 127 to 64 of the product of two signed numbers."""
    return left * right >> 64


def quotient(dividend: int, divisor: int) -> int:
    """Of two unsigned numbers, rounded down; the divisor must not be 0."""
    return wrap((dividend & 0xFFFF_FFFF_FFFF_FFFF) // (divisor & 0xFFFF_FFFF_FFFF_FFFF))


def remainder(dividend: int, divisor: int) -> int:
    """Of the division of two unsigned numbers; the divisor must not be 0."""
    return wrap((dividend & 0xFFFF_FFFF_FFFF_FFFF) % (divisor & 0xFFFF_FFFF_FFFF_FFFF))


def lowest_bit(value: int) -> int:
    """The number of the lowest bit that is set; the value must not be 0."""
    return (value & -value).bit_length() - 1


def highest_bit(value: int) -> int:
    """The number of the highest bit that is set; the value must not be 0."""
    return (value & 0xFFFF_FFFF_FFFF_FFFF).bit_length() - 1


def _read(width: int, address: int) -> int:
    return _WORDS[width].from_address(address).value


def _write(width: int, address: int, value: int) -> None:
    _WORDS[width].from_address(address).value = value


def get(width: int, address: int) -> int:
    """Reads from the state block."""
    return _read(width, address)


def put(width: int, address: int, value: int) -> None:
    """Writes the low bits of `value` to the state block."""
    _write(width, address, value)


def load(width: int, address: int) -> int:
    """Reads from the guest's memory."""
    return _read(width, address)


def store(width: int, address: int, value: int) -> None:
    """Writes the low bits of `value` to the guest's memory."""
    _write(width, address, value)


def field(width: int, address: int) -> int:
    """Reads from a decoded instruction or a table."""
    return _read(width, address)


def set_field(width: int, address: int, value: int) -> None:
    """Writes the low bits of `value` to a decoded instruction or a table."""
    _write(width, address, value)


def invoke(state: int, place: int, spare: int) -> int:
    """Calls the routine of a place, with the same arguments; the word at the place says which routine it is.

    That word is the routine's address in native code, its number in plain Python.
    """
    raise NotImplementedError("supplied by the engine")


def proceed(state: int, place: int, spare: int) -> int:
    """As `invoke`, but a jump that leaves no frame behind; only in the `return` of a routine in threaded code."""
    raise NotImplementedError("there is no threaded code in plain Python")
