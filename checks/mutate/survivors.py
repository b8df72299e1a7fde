"""The verdicts on mutants that no theorem notices: equivalent, explained, or open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from checks.mutate import clauses, equivalence
from checks.mutate.explanations import Explanation, first_that_fits
from checks.mutate.fates import Fate, Verdict
from checks.mutate.independence import INDEPENDENT, is_independent
from checks.mutate.memory import Memory
from checks.mutate.places import Mutant
from checks.mutate.tables import RULES
from checks.mutate.weave import Weaver
from grammar import ir

MOST_SUBJECTS = 3
"""Instructions and steps that use a changed function are compared one by one only if they are so few."""

ASSUMED = ("policies", "invariants", RULES)
AS_GOOD = "proved: the VMM and the hardware keep this promise too, and all theorems follow from it"
"""What it means that a promise survives which theorems assume and others say is kept."""

_COMPARED = ("isolation", "trap")
"""The families whose groups are each about one step, or one block of instructions."""
_OWN = {"steps": "isolation", "instructions": "trap"}


@dataclass(slots=True)
class Survivors:
    """Verdicts on mutants of one program, by number; what earlier runs found is looked up in `memory`.

    `is_whole`: the mutants were tried on all families of theorems.
    """

    program: ir.Program
    mutants: Mapping[int, Mutant]
    explanations: Sequence[Explanation]
    memory: Memory | None = None
    is_whole: bool = True
    _weaver: Weaver = field(init=False)

    def __post_init__(self) -> None:
        self._weaver = Weaver(self.program)

    def equivalent(self, numbers: frozenset[int]) -> Iterator[Verdict]:
        """Those that do by themselves what the original does: no theorem need be tried on them."""
        independent = {n for n in sorted(numbers) if is_independent(self.program, self.mutants[n])}
        for number in sorted(independent):
            yield Verdict(self.mutants[number], Fate.EQUIVALENT, INDEPENDENT)
        yield from self._same_alone(numbers - independent)

    def _same_alone(self, numbers: frozenset[int]) -> Iterator[Verdict]:
        items: dict[tuple[str, str], set[int]] = defaultdict(set)
        for number in sorted(numbers):
            items[self.mutants[number].kind, self.mutants[number].name].add(number)
        for (kind, name), some in items.items():
            for number, reason in sorted(self._alone(kind, name, frozenset(some)).items()):
                yield Verdict(self.mutants[number], Fate.EQUIVALENT, reason)

    def left(self, groups: Mapping[int, Sequence[str]]) -> Iterator[Verdict]:
        """The verdicts on those that survived these groups: what is proved of them, else what is listed."""
        subjects = {number: self._subjects(number, tried) for number, tried in groups.items()}
        concerned: dict[str, set[int]] = defaultdict(set)
        for number, own in subjects.items():
            for subject in own:
                concerned[subject].add(number)
        proved = {subject: self._compared(subject, frozenset(some)) for subject, some in concerned.items()}
        for number, own in subjects.items():
            reason = equivalence.weakest(proved[subject].get(number, "") for subject in own)
            yield self._verdict(number, reason, groups[number])

    def _subjects(self, number: int, groups: Sequence[str]) -> list[str]:
        """What is compared to the original: its own step or instruction, and those whose groups it is in.

        What an exit reports is in no theorem about instructions. Of what is explained and in no group, nothing has to
        be proved.
        """
        mutant = self.mutants[number]
        own = [f"{_OWN[mutant.kind]}.{mutant.name}"] if mutant.kind in _OWN else []
        if not groups and first_that_fits(self.explanations, mutant) is not None:
            return []
        pairs = [group.split(".", 1) for group in dict.fromkeys((*groups, *own))]
        found = [subject for family, subject in pairs if family in _COMPARED]
        return found if len(found) <= MOST_SUBJECTS else []

    def _verdict(self, number: int, proved: str, groups: Sequence[str]) -> Verdict:
        mutant, tried = self.mutants[number], len(groups)
        if mutant.kind in ASSUMED and tried and self.is_whole:
            return Verdict(mutant, Fate.EXPLAINED, AS_GOOD, groups=tried)
        if proved:
            fate = Fate.EQUIVALENT if proved in equivalence.EQUIVALENT else Fate.EXPLAINED
            return Verdict(mutant, fate, proved, groups=tried)
        listed = first_that_fits(self.explanations, mutant)
        if listed is not None and listed.told(groups):
            return Verdict(mutant, Fate.EXPLAINED, listed.told(groups), groups=tried)
        return Verdict(mutant, Fate.SURVIVED if tried else Fate.UNREACHED, groups=tried)

    def _alone(self, kind: str, name: str, some: frozenset[int]) -> Mapping[int, str]:
        known = self.memory.compared(f"{kind} {name}", some) if self.memory is not None else None
        if known is None:
            numbered = self._numbered(some)
            if kind == "state":
                known = clauses.reasons(self.program, self._weaver, name, numbered)
            else:
                same = equivalence.same_alone(self.program, self._weaver, numbered)
                known = dict.fromkeys(same, equivalence.SAME)
            self._remember(f"{kind} {name}", some, known)
        return known

    def _compared(self, subject: str, some: frozenset[int]) -> Mapping[int, str]:
        known = self.memory.compared(subject, some) if self.memory is not None else None
        if known is None:
            known = equivalence.reasons(self.program, self._weaver, subject, self._numbered(some))
            self._remember(subject, some, known)
        return known

    def _remember(self, what: str, some: frozenset[int], found: Mapping[int, str]) -> None:
        if self.memory is not None:
            self.memory.remember_compared(what, some, found)

    def _numbered(self, some: frozenset[int]) -> equivalence.Numbered:
        return {number: self.mutants[number] for number in sorted(some)}
