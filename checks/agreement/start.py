"""Random start states: a machine of the fuzzer's bases with some of its state replaced at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from checks.agreement.values import RARE, Point, Values
from checks.fuzz.bases import BASES, Bases
from checks.symbolic.values import width_of
from checks.trap.forms import Form, Place
from grammar import ir
from refmodel.model import Model

SHARES = (0.0, 0.0, 0.02, 0.1, 1.0)
"""The parts of a base that are replaced in an image."""
FEW = (0, 1, 1, 2, 3, None)
"""So many of the registers that a form looks at are replaced in a state; None: all."""
_FLAGS = [
    (f"operands.{name}", 2 * number)
    for number, name in enumerate(("rex", "address_size", "word", "quadword", "repeat", "repne"))
]
"""Truth values, each true in one of four states, and where its two bits are in a random number."""


@dataclass(frozen=True, slots=True)
class Image:
    """A whole state of which start states are made: what is not indexed, what is ghost, and short indexed state."""

    scalars: dict[str, int]
    ghosts: dict[str, int]
    lists: dict[str, list[int]]


@dataclass(slots=True)
class Start:
    """One start state. `changed` are the scalars that are not those of the image; `given` and `salt` are those of
    `checks.agreement.values.Unknowns`.
    """

    image: Image
    scalars: dict[str, int]
    lists: dict[str, list[int]]
    operands: dict[str, int]
    salt: int
    changed: Sequence[str] = ()
    given: Mapping[tuple[str, Point], int] = field(default_factory=dict)

    def constants(self) -> dict[str, int]:
        """The values of the terms' constants, apart from probed points."""
        return {**self.scalars, **self.image.ghosts, **self.operands}


@dataclass(frozen=True, slots=True)
class Found:
    """Values of constants by name, and of unknown functions by name and point."""

    constants: dict[str, int] = field(default_factory=dict)
    given: dict[tuple[str, Point], int] = field(default_factory=dict)


class Starts:
    """Makes start states for one model."""

    def __init__(self, model: Model, values: Values) -> None:
        self._values = values
        bases, machine = Bases(model), model.machine(1 << 20)
        self._variables = [v for v in model.program.state.values() if not isinstance(v.type, ir.Struct)]
        self._widths = {v.name: width_of(v.type) for v in self._variables}
        self._truths = {v.name for v in self._variables if isinstance(v.type, ir.Bool)}
        self._scalars = [v.name for v in self._variables if not v.indices and v.space != "ghost"]
        self._lists = [v.name for v in self._variables if isinstance(_value(machine, v), list)]
        self._bases = []
        for base in BASES:
            bases.prepare(machine, base)
            self._bases.append({v.name: _value(machine, v) for v in self._variables if _is_kept(machine, v)})

    def image(self, chance: Random) -> Image:
        """A base with a few, many or all of its items replaced."""
        base, share = chance.choice(self._bases), chance.choice(SHARES)
        image = Image({}, {}, {})
        for variable in self._variables:
            name, value = variable.name, base.get(variable.name)
            if isinstance(value, list):
                image.lists[name] = [self._replaced(chance, name, one, share) for one in value]
            elif not variable.indices:
                kept = image.ghosts if variable.space == "ghost" else image.scalars
                kept[name] = self._replaced(chance, name, int(value or 0), share)
        return image

    def near(self, image: Image, names: Sequence[str], form: Form, chance: Random) -> Start:
        """The image with a few, or all, of the scalars `names`, all general registers and the operands at random."""
        few = FEW[_below(chance, len(FEW))]
        changed = names if few is None else [names[_below(chance, len(names))] for _ in range(few) if names]
        scalars, lists = dict(image.scalars), dict(image.lists)
        for name in changed:
            scalars[name] = self._other(chance, name, scalars[name])
        lists["GPR"] = self._values.several(chance, 64, len(lists["GPR"]))
        one = self._lists[_below(chance, len(self._lists))]
        lists[one] = self._one_changed(chance, one, lists[one])
        return Start(image, scalars, lists, self.operands(form, chance), chance.getrandbits(60), changed)

    def known(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are scalars of a machine."""
        return [name for name in self._scalars if name in set(names)]

    def found(self, image: Image, found: Found, form: Form, chance: Random) -> Start:
        """The image with the values that the solver has found."""
        constants = found.constants
        scalars = {name: constants.get(name, value) for name, value in image.scalars.items()}
        ghosts = {name: constants.get(name, value) for name, value in image.ghosts.items()}
        lists = {
            name: [found.given.get((name, (n,)), value) for n, value in enumerate(values)]
            for name, values in image.lists.items()
        }
        drawn = self.operands(form, chance)
        operands = {name: constants.get(name, value) for name, value in drawn.items()}
        changed = [name for name in constants if name in scalars]
        own = Image(scalars, ghosts, lists)
        return Start(own, scalars, lists, operands, chance.getrandbits(60), changed, found.given)

    def beside(self, start: Start, names: Sequence[str], chance: Random) -> Start:
        """A state like one that was found, but for a scalar of `names` or an access, and what the solver left open.

        Most paths to an end are those of another but for one access that fails.
        """
        scalars, changed, given = dict(start.scalars), list(start.changed), dict(start.given)
        accesses = [at for at in given if at[0].endswith(RARE)]
        if accesses and chance.getrandbits(2):
            given[accesses[_below(chance, len(accesses))]] ^= 1
        elif names:
            name = chance.choice(names)
            scalars[name] = self._other(chance, name, scalars[name])
            changed.append(name)
        lists = {
            name: [
                value if (name, (n,)) in start.given else self._values.draw(chance, self._widths[name])
                for n, value in enumerate(values)
            ]
            for name, values in start.lists.items()
        }
        return replace(
            start, scalars=scalars, lists=lists, changed=changed, given=given, salt=chance.getrandbits(60)
        )

    def operands(self, form: Form, chance: Random) -> dict[str, int]:
        """Random values for the symbols of `checks.trap.operands.OperandSymbols`."""
        bits, draw = chance.getrandbits(32), self._values.draw
        values: dict[str, int] = {name: not bits >> n & 3 for name, n in _FLAGS}
        values["operands.length"] = 1 + (bits >> 12) % 15
        for name, kind in zip(form.instruction.operands, form.kinds, strict=True):
            if kind.place in (Place.REGISTER, Place.NUMBER):
                values[f"{name}.index"] = _below(chance, kind.limit)
            elif kind.place is Place.MEMORY:
                values[f"{name}.segment"] = _below(chance, kind.limit)
                # Most addresses are canonical, or little but faults would be seen.
                values[f"{name}.address"] = draw(chance, 64 if not bits >> 24 & 3 else 47)
                values[f"{name}.displacement"] = draw(chance, 64)
                values[f"{name}.addressing"] = draw(chance, 12)
            elif kind.width is not None:
                values[f"{name}.value"] = draw(chance, kind.width)
        return values

    def _one_changed(self, chance: Random, name: str, values: list[int]) -> list[int]:
        place = _below(chance, len(values))
        return [*values[:place], self._other(chance, name, values[place]), *values[place + 1 :]]

    def _replaced(self, chance: Random, name: str, value: int, share: float) -> int:
        if share and chance.random() < share:
            value = self._values.draw(chance, self._widths[name])
        return self._typed(name, value)

    def _other(self, chance: Random, name: str, value: int) -> int:
        """One bit changed, or any value."""
        width = self._widths[name]
        if chance.getrandbits(1):
            return self._typed(name, value ^ 1 << _below(chance, width))
        return self._typed(name, self._values.draw(chance, width))

    def _typed(self, name: str, value: int) -> int:
        return bool(value) if name in self._truths else value


def _below(chance: Random, limit: int) -> int:
    """A number below the limit; `randrange` takes five times as long."""
    return int(chance.random() * limit)


def _is_kept(machine: Any, variable: ir.StateVariable) -> bool:
    return not variable.indices or isinstance(_value(machine, variable), list)


def _value(machine: Any, variable: ir.StateVariable) -> Any:
    value = getattr(machine.vmcs if variable.space == "vmcs" else machine, variable.name, 0)
    return list(value) if isinstance(value, list) else value
