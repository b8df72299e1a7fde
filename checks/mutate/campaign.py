"""Judges many mutants, in several processes, and sums up."""

from __future__ import annotations

import json
import multiprocessing
import signal
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import grammar
from checks.cache import ProofCache
from checks.families import families
from checks.mutate import equivalence
from checks.mutate.judge import Fate, Verdict, judge
from checks.mutate.places import Mutant
from checks.mutate.reach import FAMILIES, Reach, candidates
from grammar import ir

SCHEMA_VERSION = 1
MANY_GROUPS = 10
"""With so many groups to prove, it pays to ask first whether the place does the same as before."""
MOST_TRIED = 50
"""So many groups are proved at most, the most likely first; what none of them notices counts as survived."""
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


class Campaign:
    """The mutants of one program, and the theorems that could notice them."""

    def __init__(
        self, program: ir.Program, wanted: Sequence[str] = (), cache: ProofCache | None = None
    ) -> None:
        known = families()
        self.program, self.cache = program, cache
        self.reach = Reach(program, [known[name] for name in wanted or FAMILIES])
        everything = candidates(program)
        self.reached = [mutant for mutant in everything if self.reach.groups(mutant)]
        unreached = [mutant for mutant in everything if not self.reach.groups(mutant)]
        self.unreached = Counter(mutant.name for mutant in unreached)
        self._explanations = explanations()

    def sample(self, size: int | None, seed: int) -> list[Mutant]:
        """So many of the mutants that theorems reach, or all, in the order of the specification."""
        if size is None or size >= len(self.reached):
            return self.reached
        chosen = Random(seed).sample(range(len(self.reached)), size)
        return [self.reached[i] for i in sorted(chosen)]

    def judge(self, mutant: Mutant) -> Verdict:
        """The fate of one mutant; of one that survived, whether it is equivalent or explained."""
        groups = self.reach.groups(mutant)
        if len(groups) > MANY_GROUPS and equivalence.is_same_alone(self.program, mutant):
            return Verdict(mutant, Fate.EQUIVALENT, equivalence.SAME)
        verdict = judge(self.program, mutant, groups[:MOST_TRIED], self.cache)
        if verdict.fate is not Fate.SURVIVED:
            return verdict
        if len(groups) > MOST_TRIED:
            verdict = replace(verdict, by=f"{MOST_TRIED} of {len(groups)} groups of theorems tried")
        proved = equivalence.reason(self.program, mutant, groups)
        if proved:
            fate = Fate.EQUIVALENT if proved in equivalence.EQUIVALENT else Fate.EXPLAINED
            return replace(verdict, fate=fate, by=proved)
        listed = next((e.reason for e in self._explanations if e.fits(mutant)), None)
        return verdict if listed is None else replace(verdict, fate=Fate.EXPLAINED, by=listed)


def verdicts(campaign: Campaign, setup: Setup, chosen: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """The verdicts as they come."""
    if jobs == 1:
        yield from map(campaign.judge, chosen)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _start_worker, (setup,)) as pool:
        yield from pool.imap_unordered(_judge_in_worker, chosen)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a campaign is made from in each process: the specification, the names of families, the cache's file."""

    specification: Path | None
    families: Sequence[str]
    cache: Path | None

    def campaign(self) -> Campaign:
        """The campaign of this process."""
        cache = ProofCache(self.cache) if self.cache is not None else None
        return Campaign(grammar.load(self.specification), self.families, cache)


_workers: list[Campaign] = []
"""The campaign of this process, if it is a worker."""


def _start_worker(setup: Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent to handle
    _workers.append(setup.campaign())


def _judge_in_worker(mutant: Mutant) -> Verdict:
    return _workers[0].judge(mutant)


def document(found: Iterable[Verdict], unreached: Counter[str]) -> dict[str, object]:
    """The results as JSON."""
    results = sorted(found, key=lambda v: v.mutant.id)
    counts = Counter(v.fate for v in results)
    return {
        "schema_version": SCHEMA_VERSION,
        "mutants": len(results),
        "killed": sum(v.fate.is_caught for v in results),
        "equivalent": counts[Fate.EQUIVALENT],
        "explained": counts[Fate.EXPLAINED],
        "survivors": [_record(v) for v in results if is_open(v)],
        "results": [_record(v) for v in results],
        "unreached": dict(unreached),
    }


def is_open(verdict: Verdict) -> bool:
    """Whether nothing explains that the mutant is not caught."""
    return verdict.fate in (Fate.SURVIVED, Fate.UNKNOWN)


def _record(verdict: Verdict) -> dict[str, object]:
    mutant = verdict.mutant
    return {
        "id": mutant.id,
        "fate": str(verdict.fate),
        "by": verdict.by,
        "item": mutant.name,
        "operator": mutant.operator,
        "description": mutant.description,
        "where": str(mutant.span),
        "seconds": round(verdict.seconds, 2),
    }


def write_json(found: Iterable[Verdict], unreached: Counter[str], path: Path) -> None:
    """Writes the results to a file.  Raises OSError."""
    path.write_text(json.dumps(document(found, unreached), indent=1) + "\n", encoding="utf-8")
