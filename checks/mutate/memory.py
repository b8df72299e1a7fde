"""What groups showed of mutants, remembered, so that a campaign that was stopped goes on where it was.

It is remembered for one specification and one state of the project's code. What becomes of a mutant depends on no
other, so what was found of many counts for each of them. What the solver left open it would leave open again: what
limits it is its work, not time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from checks.cache import ProofCache
from checks.digest import Digests
from checks.mutate.fates import Fate, Found
from checks.mutate.judge import Tried
from checks.mutate.places import Mutant
from checks.mutate.targets import Target
from checks.prover.sources import all_files, digest_of
from grammar import ir


@dataclass(frozen=True, slots=True)
class Memory:
    """Results about the mutants of these numbers, under one key."""

    cache: ProofCache
    key: bytes
    mutants: Mapping[int, Mutant]

    @classmethod
    def of(cls, program: ir.Program, mutants: Mapping[int, Mutant], cache: ProofCache) -> Memory:
        """Those about a program."""
        made_from = repr((Digests().of(program), digest_of(all_files())))
        return cls(cache, hashlib.sha256(made_from.encode()).digest(), mutants)

    def tried(self, target: Target, concerned: frozenset[int]) -> Tried | None:
        """What a group showed of these mutants, if it was tried on them and perhaps on others."""
        text = self.cache.verdict(self._key(target))
        if text is None:
            return None
        numbers, found, met = json.loads(text)
        if not concerned.issubset(numbers):
            return None
        wanted = (Found(n, Fate(fate), by, seconds) for n, fate, by, seconds in found if n in concerned)
        return Tried(tuple(wanted), concerned.intersection(met))

    def remember(self, target: Target, concerned: frozenset[int], tried: Tried) -> None:
        """Remembers it."""
        found = [(one.number, one.fate, one.by, one.seconds) for one in tried.found]
        text = json.dumps([sorted(concerned), found, sorted(tried.met)])
        self.cache.remember_verdict(self._key(target), text)

    def compared(self, what: str, some: frozenset[int]) -> Mapping[int, str] | None:
        """The reasons that were found by comparing these mutants of an item, or in a subject, with the original."""
        text = self.cache.verdict(self._key_of_comparison(what, some))
        return None if text is None else dict(json.loads(text))

    def remember_compared(self, what: str, some: frozenset[int], found: Mapping[int, str]) -> None:
        """Remembers them."""
        self.cache.remember_verdict(self._key_of_comparison(what, some), json.dumps(sorted(found.items())))

    def _key(self, target: Target) -> bytes:
        return self._digest(target.outline.group, target.outline.ids)

    def _key_of_comparison(self, what: str, some: frozenset[int]) -> bytes:
        return self._digest("compared", what, sorted(some))

    def _digest(self, *parts: object) -> bytes:
        return hashlib.sha256(self.key + repr(parts).encode()).digest()
