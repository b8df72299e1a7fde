"""The list of reasons why mutants survive that no theorem need notice."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from checks.mutate.places import Mutant

EXPLAINED = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why some mutants survive; patterns for the item, the operator and the description."""

    reason: str
    item: str = "*"
    operator: str = "*"
    what: str = "*"

    def fits(self, mutant: Mutant) -> bool:
        """Whether it is about this mutant."""
        pairs = zip(mutant.meaning, (self.item, self.operator, self.what), strict=True)
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)


def explanations(path: Path = EXPLAINED) -> list[Explanation]:
    """The list that is kept with the operators."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("explanation", ())
    return [Explanation(**entry) for entry in entries]
