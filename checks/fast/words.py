"""The vocabulary of the fast model's restricted Python on Z3 terms.

A handler's own text runs on these values as it runs on integers: numbers that are not known are `Word`s, and a
condition that is not known is a `Fact`, which decides by the `Paths` at hand when the text asks for it. Everything a
word needs hangs on the values, so that a text is prepared once for all proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import z3

from checks.symbolic.folding import signed
from checks.symbolic.terms import Terms, Truth, Vector
from fastmodel.compiler import primitives
from fastmodel.compiler.plain import PlainProgram

Result = TypeVar("Result")
MASK = (1 << 64) - 1


@dataclass(slots=True)
class Paths:
    """Decides what is not known, one way after the other.

    `choices` are the decisions of the path at hand, in order; `conditions` what it takes for granted.
    """

    terms: Terms
    choices: list[bool] = field(default_factory=list)
    conditions: list[Truth] = field(default_factory=list)
    _known: dict[int, tuple[z3.BoolRef, bool]] = field(
        default_factory=dict
    )  # by the number of a term that is kept

    def decide(self, condition: Truth) -> bool:
        """Whether the condition holds on this path."""
        if isinstance(condition, bool):
            return condition
        number = condition.get_id()
        if number not in self._known:
            position = len(self.conditions)
            if position == len(self.choices):
                self.choices.append(True)
            chosen = self.choices[position]
            self._known[number] = condition, chosen
            self.conditions.append(condition if chosen else self.terms.negation(condition))
        return self._known[number][1]

    def explore(self, act: Callable[[], Result]) -> Iterator[tuple[Truth, Result]]:
        """Runs `act` once for each path: the path's condition, and what it gave."""
        self.choices.clear()
        while True:
            self.conditions.clear()
            self._known.clear()
            result = act()
            yield self.terms.conjunction(self.conditions), result
            while self.choices and not self.choices[-1]:
                self.choices.pop()
            if not self.choices:
                return
            self.choices[-1] = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition that is not known; as a `bool` it is what the path decides."""

    paths: Paths
    condition: Truth

    def __bool__(self) -> bool:
        return self.paths.decide(self.condition)


@dataclass(frozen=True, slots=True, eq=False)
class Word:
    """A 64-bit number that is not known; operators are those of the restricted Python."""

    paths: Paths
    value: Vector

    def __add__(self, other: int | Word) -> int | Word:
        return self._with("+", other)

    def __radd__(self, other: int) -> int | Word:
        return self._from("+", other)

    def __sub__(self, other: int | Word) -> int | Word:
        return self._with("-", other)

    def __rsub__(self, other: int) -> int | Word:
        return self._from("-", other)

    def __mul__(self, other: int | Word) -> int | Word:
        return self._with("*", other)

    def __rmul__(self, other: int) -> int | Word:
        return self._from("*", other)

    def __and__(self, other: int | Word) -> int | Word:
        return self._with("&", other)

    def __rand__(self, other: int) -> int | Word:
        return self._from("&", other)

    def __or__(self, other: int | Word) -> int | Word:
        return self._with("|", other)

    def __ror__(self, other: int) -> int | Word:
        return self._from("|", other)

    def __xor__(self, other: int | Word) -> int | Word:
        return self._with("^", other)

    def __rxor__(self, other: int) -> int | Word:
        return self._from("^", other)

    def __lshift__(self, other: int | Word) -> int | Word:
        return self._with("<<", other)

    def __rlshift__(self, other: int) -> int | Word:
        return self._from("<<", other)

    def __rshift__(self, other: int | Word) -> int | Word:
        return self._with(">>s", other)

    def __rrshift__(self, other: int) -> int | Word:
        return self._from(">>s", other)

    def __invert__(self) -> int | Word:
        return self.made(self.paths.terms.complement(self.value, 64))

    def __neg__(self) -> int | Word:
        return self.made(self.paths.terms.negate(self.value, 64))

    def __eq__(self, other: object) -> Fact:  # type: ignore[override]
        return Fact(self.paths, self.paths.terms.equal(self.value, bits_of(other), 64))

    def __ne__(self, other: object) -> Fact:  # type: ignore[override]
        terms = self.paths.terms
        return Fact(self.paths, terms.negation(terms.equal(self.value, bits_of(other), 64)))

    def __lt__(self, other: int | Word) -> Fact:
        return self.compared("<s", other)

    def __le__(self, other: int | Word) -> Fact:
        return self.compared("<=s", other)

    def __gt__(self, other: int | Word) -> Fact:
        return self.compared(">s", other)

    def __ge__(self, other: int | Word) -> Fact:
        return self.compared(">=s", other)

    __hash__ = None  # type: ignore[assignment]

    def made(self, value: Vector) -> int | Word:
        """A value of this word's world."""
        return number(self.paths, value)

    def compared(self, operator: str, other: int | Word) -> Fact:
        """An ordering of `Terms.compare`."""
        return Fact(self.paths, self.paths.terms.compare(operator, self.value, bits_of(other), 64))

    def _with(self, operator: str, other: int | Word) -> int | Word:
        if not isinstance(other, (int, Word)):
            return NotImplemented
        return self.made(self.paths.terms.arithmetic(operator, self.value, bits_of(other), 64))

    def _from(self, operator: str, other: int) -> int | Word:
        return self.made(self.paths.terms.arithmetic(operator, bits_of(other), self.value, 64))


def bits_of(value: object) -> Vector:
    """A number of a text as a 64-bit vector."""
    if isinstance(value, Word):
        return value.value
    assert isinstance(value, int), value
    return value & MASK


def number(paths: Paths, value: Vector) -> int | Word:
    """A 64-bit vector as a number of a text."""
    return signed(value, 64) if isinstance(value, int) else Word(paths, value)


class Place(Protocol):
    """An address in one of the three kinds of memory."""

    def read(self, width: int) -> int | Word:
        """Reads, and zero-extends."""
        ...

    def write(self, width: int, value: int | Word) -> None:
        """Writes the low bits."""
        ...


class Translator(Protocol):
    """The address of the state block, which knows how linear addresses are translated."""

    def read_address(self, linear: int | Word, size: int) -> object:
        """As `fastmodel.memory.read_address`."""
        ...

    def write_address(self, linear: int | Word, size: int) -> object:
        """As `fastmodel.memory.write_address`."""
        ...


# --- the words ---


def _wrap(value: object) -> object:
    return primitives.wrap(value) if isinstance(value, int) else value


def _low(width: int, value: int | Word, *, is_signed: bool) -> int | Word:
    if isinstance(value, int):
        return primitives.signed(width, value) if is_signed else primitives.unsigned(width, value)
    terms = value.paths.terms
    low = terms.extract(value.value, width - 1, 0)
    return value.made(terms.extend(low, width, 64, is_signed=is_signed))


def _signed(width: int, value: int | Word) -> int | Word:
    return _low(width, value, is_signed=True)


def _unsigned(width: int, value: int | Word) -> int | Word:
    return _low(width, value, is_signed=False)


def _shift_right(value: int | Word, amount: int | Word) -> int | Word:
    world = value if isinstance(value, Word) else amount
    if not isinstance(world, Word):
        return primitives.shift_right(value, amount)  # type: ignore[arg-type]
    terms = world.paths.terms
    distance = terms.arithmetic("&", bits_of(amount), 63, 64)
    return world.made(terms.arithmetic(">>", bits_of(value), distance, 64))


def _below(left: int | Word, right: int | Word) -> bool | Fact:
    world = left if isinstance(left, Word) else right
    if not isinstance(world, Word):
        return primitives.below(left, right)  # type: ignore[arg-type]
    return Fact(world.paths, world.paths.terms.compare("<", bits_of(left), bits_of(right), 64))


def _bit(condition: bool | Fact) -> int | Word:
    if isinstance(condition, bool):
        return int(condition)
    return number(condition.paths, condition.paths.terms.choose(condition.condition, 1, 0, 64))


def _high(left: int | Word, right: int | Word, *, is_signed: bool) -> int | Word:
    """Bits 127 to 64 of a product."""
    world = left if isinstance(left, Word) else right
    if not isinstance(world, Word):
        word = primitives.signed_high_product if is_signed else primitives.high_product
        return word(left, right)  # type: ignore[arg-type]
    terms = world.paths.terms
    wide = [terms.extend(bits_of(value), 64, 128, is_signed=is_signed) for value in (left, right)]
    return world.made(terms.extract(terms.arithmetic("*", wide[0], wide[1], 128), 127, 64))


def _high_product(left: int | Word, right: int | Word) -> int | Word:
    return _high(left, right, is_signed=False)


def _signed_high_product(left: int | Word, right: int | Word) -> int | Word:
    return _high(left, right, is_signed=True)


def _quotient(dividend: Word, divisor: int | Word) -> int | Word:
    return dividend.made(dividend.paths.terms.arithmetic("/", dividend.value, bits_of(divisor), 64))


def _remainder(dividend: Word, divisor: int | Word) -> int | Word:
    return dividend.made(dividend.paths.terms.arithmetic("%", dividend.value, bits_of(divisor), 64))


def _scanned(value: Word, numbers: Iterable[int]) -> int | Word:
    """The last of some bits that is set."""
    terms = value.paths.terms
    found: Vector = 0
    for number_ in numbers:
        found = terms.choose(terms.bit(value.value, number_, 64, 64), number_, found, 64)
    return value.made(found)


def _lowest_bit(value: Word) -> int | Word:
    return _scanned(value, reversed(range(64)))


def _highest_bit(value: Word) -> int | Word:
    return _scanned(value, range(64))


def _read(width: int, place: Place) -> int | Word:
    return place.read(width)


def _write(width: int, place: Place, value: int | Word) -> None:
    place.write(width, value)


def _read_address(state: Translator, linear: int | Word, size: int) -> object:
    return state.read_address(linear, size)


def _write_address(state: Translator, linear: int | Word, size: int) -> object:
    return state.write_address(linear, size)


WORDS: dict[str, Callable[..., Any]] = {
    "wrap": _wrap,
    "signed": _signed,
    "unsigned": _unsigned,
    "shift_right": _shift_right,
    "below": _below,
    "bit": _bit,
    "high_product": _high_product,
    "signed_high_product": _signed_high_product,
    "quotient": _quotient,
    "remainder": _remainder,
    "lowest_bit": _lowest_bit,
    "highest_bit": _highest_bit,
    "get": _read,
    "put": _write,
    "load": _read,
    "store": _write,
    "field": _read,
    "set_field": _write,
}
"""The words; a lookup of an operand's address is none of them."""

TEXTS = PlainProgram({**WORDS, "read_address": _read_address, "write_address": _write_address})
"""The handlers' texts, to run on the values of this module."""
