"""The verdict on a mutant that no theorem notices: equivalent, explained, or open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from checks.mutate import equivalence
from checks.mutate.explanations import Explanation, first_that_fits
from checks.mutate.fates import Fate, Verdict
from checks.mutate.places import Mutant
from grammar import ir


@dataclass(frozen=True, slots=True)
class Survivors:
    """Verdicts on survivors of one program."""

    program: ir.Program
    explanations: Sequence[Explanation]

    def _own(self, mutant: Mutant) -> Sequence[str]:
        """The group about the mutant's item, whose terms it is not in: what an exit reports is in no theorem."""
        families = {"steps": "isolation", "instructions": "trap"}
        return [f"{families[mutant.kind]}.{mutant.name}"] if mutant.kind in families else []

    def verdict(self, mutant: Mutant, groups: Sequence[str]) -> Verdict:
        """What is proved of it, else what is listed; of what no theorem is about, the list is asked first."""
        listed = first_that_fits(self.explanations, mutant)
        if listed is None or groups:
            proved = equivalence.reason(self.program, mutant, groups or self._own(mutant))
            if proved:
                fate = Fate.EQUIVALENT if proved in equivalence.EQUIVALENT else Fate.EXPLAINED
                return Verdict(mutant, fate, proved, 0.0, len(groups))
        if listed is not None:
            return Verdict(mutant, Fate.EXPLAINED, listed.reason, 0.0, len(groups))
        return Verdict(mutant, Fate.SURVIVED if groups else Fate.UNREACHED, "", 0.0, len(groups))
