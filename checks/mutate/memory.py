"""Verdicts on mutants that are remembered, so that a campaign that was stopped goes on where it was.

They are those of one specification, one state of the project's code and of the list of explanations, and one choice of
families.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from checks.cache import ProofCache
from checks.digest import Digests
from checks.mutate.campaign import EXPLAINED
from checks.mutate.judge import Fate, Verdict
from checks.mutate.places import Mutant
from checks.prover.memo import code_digest
from grammar import ir


@dataclass(frozen=True, slots=True)
class Memory:
    """The verdicts under one key."""

    cache: ProofCache
    key: bytes

    @classmethod
    def of(cls, program: ir.Program, families: Sequence[str], cache: ProofCache) -> Memory:
        """Those about a program, by the families of theorems of that name."""
        made_from = repr((Digests().of(program), code_digest(), EXPLAINED.read_bytes(), sorted(families)))
        return cls(cache, hashlib.sha256(made_from.encode()).digest())

    def recall(self, mutants: Iterable[Mutant]) -> tuple[list[Verdict], list[Mutant]]:
        """The verdicts that are known, and the mutants that are left."""
        known, left = [], []
        for mutant in mutants:
            text = self.cache.verdict(self._key(mutant))
            if text is None:
                left.append(mutant)
                continue
            fate, by, seconds, groups = json.loads(text)
            known.append(Verdict(mutant, Fate(fate), by, seconds, groups))
        return known, left

    def remember(self, verdict: Verdict) -> None:
        """Remembers a verdict; one that was left open not."""
        if verdict.fate is not Fate.UNKNOWN:
            text = json.dumps([verdict.fate, verdict.by, verdict.seconds, verdict.groups])
            self.cache.remember_verdict(self._key(verdict.mutant), text)

    def _key(self, mutant: Mutant) -> bytes:
        return hashlib.sha256(self.key + mutant.id.encode()).digest()
