"""What groups showed of mutants, remembered, so that a campaign that was stopped goes on where it was.

It is remembered for one specification and one state of the project's code; of survivors also for one list of
explanations. What becomes of a mutant depends on no other, so what was found of many counts for each of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from checks.cache import ProofCache
from checks.digest import Digests
from checks.mutate.explanations import EXPLAINED
from checks.mutate.fates import Fate, Found, Verdict
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
        """Remembers it, unless something was left open."""
        if all(one.fate is not Fate.UNKNOWN for one in tried.found):
            found = [(one.number, one.fate, one.by, one.seconds) for one in tried.found]
            text = json.dumps([sorted(concerned), found, sorted(tried.met)])
            self.cache.remember_verdict(self._key(target), text)

    def verdict(self, number: int, groups: Sequence[str]) -> Verdict | None:
        """The verdict on a mutant that survived these groups."""
        text = self.cache.verdict(self._key_of_survivor(number, groups))
        if text is None:
            return None
        fate, by = json.loads(text)
        return Verdict(self.mutants[number], Fate(fate), by, 0.0, len(groups))

    def remember_verdict(self, number: int, groups: Sequence[str], verdict: Verdict) -> None:
        """Remembers it."""
        text = json.dumps([verdict.fate, verdict.by])
        self.cache.remember_verdict(self._key_of_survivor(number, groups), text)

    def _key(self, target: Target) -> bytes:
        return self._digest(target.outline.group, target.outline.ids)

    def _key_of_survivor(self, number: int, groups: Sequence[str]) -> bytes:
        return self._digest("survivor", self.mutants[number].id, sorted(groups), EXPLAINED.read_bytes())

    def _digest(self, *parts: object) -> bytes:
        return hashlib.sha256(self.key + repr(parts).encode()).digest()
