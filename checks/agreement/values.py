"""Random values, drawn from pools, and unknown functions, whose values are found by a hash."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

Point = tuple[int, ...]
"""The arguments of an unknown function: the indices of an element, the address of a byte."""

SPECIAL_BITS = 6
"""There are 2**SPECIAL_BITS special values of each width: small and extreme ones."""
RARE_BITS = 3
"""An access faults, or exits, in one of 2**RARE_BITS cases."""
RARE = (".fault", ".exits")
"""Functions of which bit 0 is seldom set: whether an access fails."""


_SCATTER = (
    0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251F86C6A11D0C18E952767F0B153D27B7F0347045B5BF1827F01
)
"""A large odd number: the golden ratio's digits."""


class Values:
    """Random values of any width: half of them are special."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._special: dict[int, tuple[int, ...]] = {}

    def special(self, width: int) -> tuple[int, ...]:
        """Values of a width that are drawn often: the extremes, single bits, and what fits in five bits."""
        if width not in self._special:
            chance, ones = Random(f"{self._seed} {width}"), (1 << width) - 1
            extreme = (0, 1, ones, ones >> 1, (ones >> 1) + 1, ones - 1)
            kinds = (
                lambda: chance.choice(extreme),
                lambda: 1 << chance.randrange(width),
                lambda: chance.getrandbits(min(width, 5)),
                lambda: chance.getrandbits(min(width, 5)),
            )
            self._special[width] = tuple(kinds[n % 4]() for n in range(1 << SPECIAL_BITS))
        return self._special[width]

    def draw(self, chance: Random, width: int) -> int:
        """A value of a width."""
        return self.several(chance, width, 1)[0]

    def several(self, chance: Random, width: int, count: int) -> list[int]:
        """So many values of a width."""
        bits, special = chance.getrandbits, self.special(width)
        return [
            bits(width) if (kind := bits(SPECIAL_BITS + 1)) & 1 else special[kind >> 1] for _ in range(count)
        ]


class Unknowns:
    """Functions of which nothing is known but that equal arguments give equal values.

    `salt` chooses the functions; `given` has values that are to be at some points, by name and point. Nothing is
    remembered, so both back ends ask here, in any order.
    """

    def __init__(self, values: Values, widths: Mapping[str, int]) -> None:
        self.salt = 0
        self.given: Mapping[tuple[str, Point], int] = {}
        self._functions = {
            name: (number, width, values.special(width), name.endswith(RARE))
            for number, (name, width) in enumerate(widths.items())
        }

    def value(self, name: str, point: Point) -> int:
        """The value of a function at a point."""
        if self.given and (name, point) in self.given:
            return self.given[name, point]
        number, width, special, is_rare = self._functions[name]
        chosen = hash((self.salt, number, point))  # of numbers alone, so that each run of Python has the same
        kind = chosen & (2 << SPECIAL_BITS) - 1
        value = chosen * _SCATTER >> 61 & (1 << width) - 1 if kind & 1 else special[kind >> 1]
        return value & ~1 | (not chosen >> 20 & (1 << RARE_BITS) - 1) if is_rare else value


class Functions(dict[str, Any]):
    """Unknown functions by name, to be called with their arguments."""

    def __init__(self, unknowns: Unknowns) -> None:
        super().__init__()
        self._unknowns = unknowns

    def __missing__(self, name: str) -> Any:
        value = self._unknowns.value
        self[name] = function = lambda *point: value(name, point)
        return function
