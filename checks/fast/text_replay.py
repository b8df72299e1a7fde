"""Replays a counterexample about a text of the fast model: it runs as plain Python on the numbers of the case.

The specification says nothing of such a text, so there is nothing for the reference to run. What the lemma wants of it
is asked of these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import z3

from checks.case import Case
from checks.fast.table_words import Memory
from checks.fast.text_case import REACHES, word_at
from checks.fast.translations import LEMMAS, Lemmas
from checks.outcome import EXCLUDED
from checks.symbolic.folding import signed
from checks.symbolic.terms import Terms, Vector
from refmodel.model import Model
from refmodel.vectors import CaseError


def replay(case: Case, model: Model | None) -> int:
    """Runs the text: 0 if it breaks the lemma, 1 if it does not.  Raises CaseError."""
    print(f"{case.id}: {', '.join(f'{name} {value:#x}' for name, value in case.expected.items())}")
    is_broken = outcome(case, model) == EXCLUDED
    print(f"CONFIRMED: {case.text}" if is_broken else "not confirmed: the text does here what the lemma says")
    return 0 if is_broken else 1


def outcome(case: Case, _model: Model | None) -> str:
    """Whether the text does what the lemma says, and something that it is about.  Raises CaseError."""
    lemma = LEMMAS.get(case.id.rsplit(".", 1)[-1])
    if lemma is None:
        raise CaseError(f"'{case.id}' does not name a lemma about a text")
    lemmas = _Numbers(Terms(z3.Context()), values=case.expected)
    claims = list(lemma(lemmas))
    if not all(lemmas.assumed()):
        return "the tables are not used so"
    if not all(claims):
        return EXCLUDED
    return REACHES if any(lemmas.reached) else "the text does nothing that the lemma is about"


@dataclass(slots=True)
class _Numbers(Lemmas):
    """The lemmas about the numbers of a case; what it does not name is 0."""

    values: Mapping[str, int] = field(default_factory=dict)

    def memory(self) -> Memory:
        """The block and the tables of the case."""
        return Memory(self.paths, _Words(self.values, {}))

    def word(self, name: str) -> int:
        """A number of the case."""
        return signed(self.values.get(name, 0), 64)


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of the case, and those written since."""

    values: Mapping[str, int]
    new: Mapping[int, int]

    def read(self, address: Vector) -> Vector:
        """The word at an address."""
        assert isinstance(address, int)
        return self.new.get(address, self.values.get(word_at(address), 0))

    def written(self, address: Vector, value: Vector) -> _Words:
        """The words after a write."""
        assert isinstance(address, int)
        assert isinstance(value, int)
        return _Words(self.values, {**self.new, address: value})
