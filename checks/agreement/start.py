"""Random start states: a machine of the fuzzer's bases with some of its state replaced at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from checks.fuzz.bases import BASES, Bases
from checks.symbolic.values import width_of
from grammar import ir
from refmodel.model import Model

FAULT_BIAS = 8
"""One access in so many faults, and one exits."""


def random_value(chance: Random, width: int) -> int:
    """Any value of `width` bits, small and extreme ones often."""
    ones = (1 << width) - 1
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice((0, 1, ones, ones >> 1, (ones >> 1) + 1))
    return chance.getrandbits(width) if kind > 1 else chance.getrandbits(min(width, 5))


class Bytes:
    """A memory of random bytes in the place of the reference's: each is chosen when it is used first."""

    def __init__(self, first: Callable[[int], int]) -> None:
        self.first = first
        self.written: dict[int, int] = {}

    def read(self, address: int, length: int) -> int:
        """`length` bytes as a little-endian number."""
        addresses = (address + i & (1 << 64) - 1 for i in range(length))
        return int.from_bytes(
            bytes(self.written[a] if a in self.written else self.first(a) for a in addresses), "little"
        )

    def write(self, address: int, value: int, length: int) -> None:
        """Writes `length` bytes of a little-endian number."""
        for i, byte in enumerate(value.to_bytes(length, "little")):
            self.written[address + i & (1 << 64) - 1] = byte

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """`read_8` to `write_64`."""
        operation, _, width = name.partition("_")
        if operation == "read" and width.isdigit():
            return lambda address: self.read(address, int(width) // 8)
        if operation == "write" and width.isdigit():
            return lambda address, value: self.write(address, value, int(width) // 8)
        raise AttributeError(name)


class Elements(dict[Any, int]):
    """Indexed state of the reference: an element not written yet is that of the start."""

    def __init__(self, first: Callable[[Any], int]) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, index: Any) -> int:
        return self._first(index)


@dataclass(slots=True)
class Start:
    """One start state: `scalars` by name, and `element(name, point)` for what is indexed, memories and unknowns."""

    chance: Random
    scalars: dict[str, int]
    fixed: Mapping[str, list[int]]
    widths: Mapping[str, int]
    _elements: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)

    def element(self, name: str, point: tuple[int, ...]) -> int:
        """The value of an uninterpreted function, chosen when it is asked for first."""
        if name in self.fixed:
            return self.fixed[name][point[0]]
        at = (name, point)
        if at not in self._elements:
            self._elements[at] = self._chosen(name)
        return self._elements[at]

    def _chosen(self, name: str) -> int:
        value = random_value(self.chance, self.widths[name])
        if name.endswith((".fault", ".exits")):  # bit 0 says whether it does
            return value & ~1 | (self.chance.randrange(FAULT_BIAS) == 0)
        return value


class Starts:
    """Makes start states for one model."""

    def __init__(self, model: Model) -> None:
        bases, machine = Bases(model), model.machine(1 << 20)
        self._variables = [v for v in model.program.state.values() if not isinstance(v.type, ir.Struct)]
        self._images = []
        for base in BASES:
            bases.prepare(machine, base)
            self._images.append({v.name: _value(machine, v) for v in self._variables if _is_kept(machine, v)})

    def choose(self, chance: Random, widths: Mapping[str, int]) -> Start:
        """A base's state with random registers, and with a few, many or all other items random too."""
        image = chance.choice(self._images)
        share = chance.choice((0.0, 0.0, 0.02, 0.1, 1.0))
        scalars: dict[str, int] = {}
        fixed: dict[str, list[int]] = {}
        for variable in self._variables:
            name, width = variable.name, width_of(variable.type)
            value = image.get(name)
            if isinstance(value, list):
                fixed[name] = [
                    self._mutated(chance, one, width, 1.0 if name == "GPR" else share) for one in value
                ]
            elif not variable.indices:
                scalars[name] = self._mutated(chance, value, width, 0.5 if name == "RFLAGS" else share)
        return Start(chance, scalars, fixed, widths)

    def _mutated(self, chance: Random, value: Any, width: int, share: float) -> int:
        return random_value(chance, width) if share and chance.random() < share else int(value)


def _is_kept(machine: Any, variable: ir.StateVariable) -> bool:
    return not variable.indices or isinstance(_value(machine, variable), list)


def _value(machine: Any, variable: ir.StateVariable) -> Any:
    value = getattr(machine.vmcs if variable.space == "vmcs" else machine, variable.name, 0)
    return list(value) if isinstance(value, list) else value
