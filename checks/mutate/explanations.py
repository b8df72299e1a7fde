"""The list of reasons why mutants survive that no theorem need notice."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from checks.mutate.fates import Fate, Verdict
from checks.mutate.places import Mutant

EXPLAINED = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why some mutants survive; patterns for the item, the operator and the description.

    `keeps` is a pattern for groups of theorems that say all there is to say of what the mutants do: each was tried on
    one of them, which holds in it.
    """

    reason: str
    item: str = "*"
    operator: str = "*"
    what: str = "*"
    keeps: str = ""

    def fits(self, mutant: Mutant) -> bool:
        """Whether it is about this mutant."""
        pairs = zip(mutant.meaning, (self.item, self.operator, self.what), strict=True)
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)

    def told(self, groups: Sequence[str]) -> str:
        """The reason why a mutant survives that none of these groups killed; "" if it is none for it."""
        if not self.keeps:
            return self.reason
        kept = any(fnmatchcase(group, self.keeps) for group in groups)
        return f"proved: `{self.keeps}` holds in it too; {self.reason}" if kept else ""


def stale(
    known: Sequence[Explanation], mutants: Iterable[Mutant], verdicts: Iterable[Verdict]
) -> list[Explanation]:
    """Those that explain nothing, although all `mutants` that they are about were judged."""
    fates = {verdict.mutant: verdict.fate for verdict in verdicts}
    about: dict[Explanation, list[Mutant]] = {one: [] for one in known}
    for mutant in mutants:
        for one in filter(lambda explanation: explanation.fits(mutant), known):
            about[one].append(mutant)
    needed = {first_that_fits(known, m) for m, fate in fates.items() if fate is Fate.EXPLAINED}
    return [one for one in known if one not in needed and all(mutant in fates for mutant in about[one])]


def first_that_fits(known: Sequence[Explanation], mutant: Mutant) -> Explanation | None:
    """The explanation that counts."""
    return next((one for one in known if one.fits(mutant)), None)


def explanations(path: Path = EXPLAINED) -> list[Explanation]:
    """The list that is kept with the operators."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("explanation", ())
    return [Explanation(**entry) for entry in entries]
