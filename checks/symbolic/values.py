"""Values of any type of the IR: vectors, truth values and records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

import z3

from checks.symbolic.terms import Terms, Truth, Vector
from grammar.ir import Bool, Struct, Type


@dataclass(frozen=True, slots=True)
class Record:
    """A struct's fields in declaration order."""

    type: Struct
    values: tuple[Value, ...]

    def field(self, name: str) -> Value:
        """The value of a field."""
        return self.values[self._index(name)]

    def replaced(self, name: str, value: Value) -> Record:
        """The record with one field replaced."""
        index = self._index(name)
        return Record(self.type, (*self.values[:index], value, *self.values[index + 1 :]))

    def _index(self, name: str) -> int:
        return next(i for i, (field, _) in enumerate(self.type.fields) if field == name)


Value: TypeAlias = Vector | Truth | Record
Point: TypeAlias = tuple[Value, ...]
"""The indices of an element of indexed state, or the address of a byte."""


def width_of(type_: Type) -> int:
    """The width of a vector type; a bool counts as one bit."""
    if isinstance(type_, Bool):
        return 1
    if isinstance(type_, Struct):
        raise TypeError(f"{type_} has no width")
    return type_.width


def choose(terms: Terms, condition: Truth, a: Value, b: Value, type_: Type) -> Value:
    """`a` if the condition holds, else `b`."""
    if isinstance(condition, bool):
        return a if condition else b
    if a is b:
        return a
    if isinstance(type_, Struct):
        left, right = cast(Record, a), cast(Record, b)
        merged = zip(left.values, right.values, type_.fields, strict=True)
        return Record(type_, tuple(choose(terms, condition, x, y, t) for x, y, (_, t) in merged))
    if isinstance(type_, Bool):
        return terms.choose_truth(condition, cast(Truth, a), cast(Truth, b))
    return terms.choose(condition, cast(Vector, a), cast(Vector, b), type_.width)


def equal(terms: Terms, a: Value, b: Value, type_: Type) -> Truth:
    """Whether two values are equal, field by field."""
    if a is b:
        return True
    if isinstance(type_, Struct):
        left, right = cast(Record, a), cast(Record, b)
        fields = zip(left.values, right.values, type_.fields, strict=True)
        return terms.conjunction(equal(terms, x, y, t) for x, y, (_, t) in fields)
    if isinstance(type_, Bool):
        return terms.equivalent(cast(Truth, a), cast(Truth, b))
    return terms.equal(cast(Vector, a), cast(Vector, b), type_.width)


def fresh(terms: Terms, name: str, type_: Type) -> Value:
    """A symbol of the type; a struct's fields are `name.field`."""
    return build(type_, name, lambda leaf, t: symbol(terms, leaf, t))


def symbol(terms: Terms, name: str, type_: Type) -> Vector | Truth:
    """A symbol of a bool or vector type."""
    return terms.bool_symbol(name) if isinstance(type_, Bool) else terms.symbol(name, width_of(type_))


def build(type_: Type, name: str, leaf: Callable[[str, Type], Value]) -> Value:
    """A value of the type whose leaves are `leaf(name of the leaf, its type)`."""
    if isinstance(type_, Struct):
        return Record(type_, tuple(build(t, f"{name}.{field}", leaf) for field, t in type_.fields))
    return leaf(name, type_)


def literal(type_: Type, value: int) -> Value:
    """The constant of a bool or vector type."""
    return bool(value) if isinstance(type_, Bool) else value


def lifted(terms: Terms, value: Value, type_: Type) -> z3.ExprRef:
    """A bool or vector as a term."""
    if isinstance(type_, Bool):
        return terms.truth(cast(Truth, value))
    return terms.vector(cast(Vector, value), width_of(type_))


def leaves(value: Value, type_: Type, name: str = "") -> Iterator[tuple[str, Vector | Truth, Type]]:
    """(dotted name, value, type) of each bool or vector in `value`."""
    if isinstance(type_, Struct):
        for part, (field, field_type) in zip(cast(Record, value).values, type_.fields, strict=True):
            yield from leaves(part, field_type, f"{name}.{field}" if name else field)
    else:
        yield name, cast(Vector | Truth, value), type_


class TermKey:
    """Equal for the same term. It keeps the term alive, since z3 gives the identifier of a dead one to another."""

    __slots__ = ("_identifier", "_term")

    def __init__(self, term: z3.AstRef) -> None:
        self._term = term
        self._identifier = term.ast.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TermKey) and other._identifier == self._identifier

    def __hash__(self) -> int:
        return hash(self._identifier)


def key(value: Value) -> object:
    """A hashable that is equal for values that are the same terms of one context."""
    if isinstance(value, Record):
        return (value.type.name, tuple(key(v) for v in value.values))
    return TermKey(value) if isinstance(value, z3.AstRef) else value
