"""Three questions about an instruction form, whatever the VMM promises: Popek and Goldberg's definitions.

The instruction runs in VMX non-root operation, its controls free, with control registers that the processor can have;
only executions without a VM exit count. The machine's *mode* is root or non-root operation; what Popek and Goldberg
call the relocation register is everything that the VMM owns (`host` in the specification); their memory traps are the
accesses that EPT or page tables stop, which the contract for memory makes the same in both states.

- control-sensitive: some execution changes what the VMM owns.
- location-sensitive: two states that look the same to the guest, but differ in what the VMM owns, give other results.
- mode-sensitive: some execution gives the guest another result than the bare machine would.

Behaviour-sensitive is the one or the other of the last two; sensitive is any; innocuous is none. An instruction that
exits whatever the state is asked about as if it did not: what it would do is what its exit protects from.

Source: G. J. Popek, R. P. Goldberg, "Formal requirements for virtualizable third generation architectures",
CACM 17(7), 1974.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from checks.sensitivity.text import Texts
from checks.sensitivity.witness import WitnessExplainer
from checks.symbolic.terms import Truth
from checks.theorem import Answers, Goal, Witness
from checks.trap.forms import Form
from checks.trap.runs import Run, Settings
from checks.trap.subject import Subject
from checks.trap.theorems import FormProof, Theorem
from checks.walk import state_read
from grammar import ir

FAMILY = "sensitive"


class Question(enum.StrEnum):
    """The last component of a goal's id."""

    CONTROL = "control"
    LOCATION = "location"
    MODE = "mode"


CLAIMS = {
    Question.CONTROL: Theorem.INTEGRITY,
    Question.LOCATION: Theorem.CONFIDENTIALITY,
    Question.MODE: Theorem.EQUIVALENCE,
}
"""The theorem of the family `trap` that an instruction violates, if nothing makes it exit, if the answer is yes."""

NO = "not sensitive"
YES = "sensitive"
ANSWERS = Answers(holds=NO, fails=YES)


@dataclass(slots=True)
class SensitivityGoals:
    """The goals `sensitive.<form>.<question>`.  They are decided, not proved: either answer will do."""

    _texts: dict[int, Texts] = field(default_factory=dict)

    def functions(self, program: ir.Program) -> frozenset[str]:  # noqa: ARG002 - of a protocol
        """None but those of the theorems about instructions."""
        return frozenset()

    def ids(self, program: ir.Program, form: Form) -> list[str]:  # noqa: ARG002
        """The ids of a form's questions."""
        return [f"{FAMILY}.{form.name}.{question}" for question in Question]

    def goals(self, subject: Subject) -> Iterator[Goal]:
        """The questions about a form; those about a plain text are answered by the text."""
        program = subject.settings.program
        texts = self._of(program)
        if texts.is_plain(subject.form.body.body):
            always = subject.settings.terms.truth(True)
            for one in self.ids(program, subject.form):
                yield Goal(one, always, answers=ANSWERS)
        else:
            yield from questions_of(subject)

    def _of(self, program: ir.Program) -> Texts:
        if id(program) not in self._texts:
            self._texts[id(program)] = Texts(program)
        return self._texts[id(program)]


def questions_of(subject: Subject) -> Iterator[Goal]:
    """The questions about a form, whatever its text mentions."""
    settings, name = subject.settings, f"{FAMILY}.{subject.form.name}"
    terms = settings.terms
    proof, exits_always = without_certain_exits(subject)
    explainer = WitnessExplainer(subject.explainer(name), exits_always)
    known = facts(settings.program)
    possible = [condition for policy, condition in settings.promises() if policy in known]
    assumed = tuple(terms.truth(one) for one in (*proof.assumed, *possible) if one is not True)
    stays = Witness("stays in the guest", terms.truth(_stays(settings, proof.claims[0].left)))
    claims = {claim.theorem: claim for claim in proof.claims}
    for question, theorem in CLAIMS.items():
        claim = claims[theorem]
        runs = (claim.left, claim.right) if theorem is Theorem.CONFIDENTIALITY else (claim.left,)
        yield Goal(
            f"{name}.{question}",
            terms.truth(claim.conclusion(terms)),
            (*assumed, *(terms.truth(_stays(settings, run)) for run in runs)),
            (stays,),
            partial(explainer.minimise, claim),
            partial(explainer.explain, question, claim),
            ANSWERS,
        )


def _stays(settings: Settings, run: Run) -> Truth:
    """The run does not exit."""
    return settings.terms.disjunction((run.completes, run.faults))


def without_certain_exits(subject: Subject) -> tuple[FormProof, bool]:
    """The runs of a form; if they exit or fault whatever the state, those of its text without exits, and True."""
    run = subject.proof.claims[0].left
    if run.completes is not False or run.exits is False:
        return subject.proof, False
    return subject.proof_of(without_exits(subject.form.body.body)), True


def without_exits(body: tuple[ir.Stmt, ...]) -> tuple[ir.Stmt, ...]:
    """A body without its `exit` clauses."""
    return tuple(one for one in body if not (isinstance(one, ir.If) and one.clause == "exit"))


def facts(program: ir.Program) -> frozenset[str]:
    """The policies that mention no VMCS field: they say what values the registers can have, and promise nothing."""
    return frozenset(
        policy.name for policy in program.policies.values() if not mentions_controls(program, policy)
    )


def mentions_controls(program: ir.Program, policy: ir.Predicate) -> bool:
    """Whether a policy is about VMCS fields, or about what they point to."""
    fields = {variable.name for variable in program.state_in("vmcs")}
    return bool(state_read(program, policy.condition) & (fields | set(program.memories)))
