"""What groups showed of mutants, remembered, so that a campaign that was stopped goes on where it was.

It is remembered for one specification and one state of the code that makes the mutants, judges them, and builds the
theorems of the family. What becomes of a mutant depends on no
other, so what was found of many counts for each of them. What the solver left open it would leave open again: what
limits it is its work, not time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from checks.cache import ProofCache
from checks.digest import Digests
from checks.families import families, modules_of
from checks.mutate.fates import Fate, Found
from checks.mutate.judge import Tried
from checks.mutate.places import Mutant
from checks.mutate.targets import Target
from checks.prover.sources import digest_of, files_of
from grammar import ir

_MUTANTS = ("checks.mutate.scope", "checks.mutate.weave")
_TRIALS = ("checks.mutate.trial", "checks.mutate.hard")
_COMPARISON = ("checks.mutate.clauses",)
"""Modules that results rest on, with what they import."""
_JUDGE = tuple(Path(__file__).with_name(name) for name in ("judge.py", "targets.py"))
"""Files that they rest on too, without what they import: every family."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Results about the mutants of these numbers, in a program of that digest."""

    cache: ProofCache
    program: bytes
    mutants: Mapping[int, Mutant]
    _code: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, program: ir.Program, mutants: Mapping[int, Mutant], cache: ProofCache) -> Memory:
        """Those about a program."""
        return cls(cache, Digests().of(program), mutants)

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
        hard = _TRIALS[1:] if target.is_hard else _TRIALS[:1]
        own = modules_of(families()[target.family])
        return self._digest(target.family, (*hard, *own), target.outline.group, target.outline.ids)

    def _key_of_comparison(self, what: str, some: frozenset[int]) -> bytes:
        return self._digest("", _COMPARISON, what, sorted(some))

    def _digest(self, kind: str, modules: Iterable[str], *parts: object) -> bytes:
        if kind not in self._code:
            self._code[kind] = digest_of([*files_of((*_MUTANTS, *modules)), *_JUDGE])
        return hashlib.sha256(repr((self.program, self._code[kind], parts)).encode()).digest()
