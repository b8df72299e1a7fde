"""Unknown functions of known arguments: what a contract leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Record, Value, build, key, leaves, literal, width_of
from grammar import ir

Arguments = Sequence[tuple[Value, ir.Type]]


class Unknowns:
    """Applications of uninterpreted functions, each built once."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._known: dict[object, Vector] = {}

    def vector(self, name: str, arguments: Arguments, width: int) -> Vector:
        """The value, of `width` bits, of the unknown function `name`."""
        at = (name, tuple(key(value) for value, _ in arguments))
        if at not in self._known:
            terms, widths = self._terms, [width_of(t) for _, t in arguments]
            function = terms.function(name, widths, width)
            bits = (terms.as_vector(v) if isinstance(t, ir.Bool) else v for v, t in arguments)
            vectors = [terms.vector(cast(Vector, v), w) for v, w in zip(bits, widths, strict=True)]
            self._known[at] = terms.apply(function, vectors)
        return self._known[at]

    def truth_and_record(self, name: str, arguments: Arguments, type_: ir.Struct) -> tuple[Truth, Record]:
        """A truth value and a record, both unknown: the bits of one vector."""
        terms = self._terms
        widths = [width_of(t) for _, _, t in leaves(zero(type_), type_)]
        whole = self.vector(name, arguments, 1 + sum(widths))
        low = iter([1 + sum(widths[:number]) for number in range(len(widths))])

        def leaf(_name: str, leaf_type: ir.Type) -> Value:
            start = next(low)
            bits = terms.extract(whole, start + width_of(leaf_type) - 1, start)
            return terms.equal(bits, 1, 1) if isinstance(leaf_type, ir.Bool) else bits

        return terms.equal(terms.extract(whole, 0, 0), 1, 1), cast(Record, build(type_, "", leaf))


def zero(type_: ir.Struct) -> Value:
    """A record of zeros."""
    return build(type_, "", lambda _name, leaf: literal(leaf, 0))
