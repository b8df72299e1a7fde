"""Functions in the fast model's restricted Python, right and wrong ones, for test_fast_compiler.py."""

# ruff: noqa: PLR1716, SIM108, SIM201, SIM300

from __future__ import annotations

from fastmodel.compiler.primitives import (
    below,
    bit,
    get,
    parameter,
    put,
    shift_right,
    signed,
    slow,
    unsigned,
)

WIDTH: int = parameter("WIDTH")
TABLE = 0x1234


def operators(a: int, b: int) -> int:
    x = (a + b) * 3 - (a ^ ~b)
    x = x + (a << b) + (b >> 3) - -a
    x += (a & b) | (TABLE >> 2)
    return x


def words(a: int, b: int) -> int:
    x = signed(8, a) + unsigned(16, b) + signed(33, a) + shift_right(a, b)
    return x + bit(below(a, b)) + 2 * bit(a < b) + 4 * bit(not a == b)


def shifts(a: int, b: int) -> int:
    return (a << b) ^ (a >> b) ^ shift_right(a, b)


def choices(a: int, b: int) -> int:
    if a < b and (b > 7 or a == 3):
        return a - b
    if below(a, b) or not a >= 0:
        x = a if b > 0 else b
    elif a == b:
        x = 5
    else:
        x = TABLE
    return x + (1 if 0 < a and a < b else 2)


def loops(a: int, b: int) -> int:
    total = 0
    i = 0
    while True:
        i = i + 1
        if i == 20:
            break
        if (a >> i) & 1 == 0:
            continue
        total = (total * 31 + i) & 0xFFFFFF
        while total > b and total > 0:
            total = total >> 1
    return total


def is_odd(a: int) -> bool:
    return a & 1 != 0


@slow
def half(a: int) -> int:
    return a >> 1


def calls(a: int, b: int) -> int:
    return half(a) if is_odd(b) and not is_odd(a) else half(b) - 1


def specialised(a: int, b: int) -> int:
    if WIDTH == 8:
        x = signed(WIDTH, a + b)
    else:
        x = unsigned(WIDTH, a - b) << (64 - WIDTH)
    return x + WIDTH // 8


def memory(state: int, value: int) -> int:
    put(64, state, value)
    put(16, state + 2, 0x8001)
    put(8, state + 7, value)
    return get(64, state) ^ get(32, state + 1) ^ get(8, state + 3)


# --- outside the subset ---


def integer_as_condition(a: int, b: int) -> int:
    if a:
        return b
    return 0


def condition_as_integer(a: int, b: int) -> int:
    return (a < b) + 1


def text(a: int, b: int) -> int:
    name = "no"
    return a + b + int(name == "yes")


def for_loop(a: int, b: int) -> int:
    for i in range(3):
        a = a + i
    return a + b


def division(a: int, b: int) -> int:
    return a // b


def method(a: int, b: int) -> int:
    return a.__add__(b)


def unknown_width(a: int, b: int) -> int:
    return signed(a, b)


def unbound_parameter(a: int, b: int) -> int:
    return a + b + WIDTH


def too_few_arguments(a: int, b: int) -> int:
    return half() + a + b  # type: ignore[call-arg]


def default_argument(a: int, b: int = 3) -> int:
    return a + b
