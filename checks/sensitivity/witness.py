"""Renders a witness: the pair of states that shows that an instruction is sensitive, with a case to replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import z3

from checks.theorem import Counterexample
from checks.trap.casefile import FormExplainer
from checks.trap.theorems import Claim

KIND = "sensitivity"
MEANINGS = {
    "control": "it changes what belongs to the VMM",
    "location": "two states look the same to the guest, and then do not",
    "mode": "the guest gets something else than on the bare machine",
}


@dataclass(slots=True)
class WitnessExplainer:
    """Explains a witness.  `exits_always`: the instruction is asked about as if it did not exit."""

    form: FormExplainer
    exits_always: bool

    def minimise(self, claim: Claim) -> Sequence[z3.ExprRef]:
        """What a witness shall have zero if it can."""
        return self.form.minimise(claim)

    def explain(self, question: str, claim: Claim, model: z3.ModelRef) -> Counterexample:
        """The witness under a model."""
        found = self.form.explain(claim, model)
        text = MEANINGS[question] + (", if it does not exit" if self.exits_always else "")
        shown = found.summary.rsplit(": ", 1)[0]
        case = found.case
        if case is not None:
            case = {**case, "kind": KIND, "id": f"{self.form.name}.{question}", "text": text}
        return replace(found, summary=f"{shown}: {text}", case=case)
