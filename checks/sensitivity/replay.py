"""Replays the witness of a sensitive instruction on the reference model."""

from __future__ import annotations

from dataclasses import replace

from checks.case import Case
from checks.outcome import OF_AN_ANSWER
from checks.sensitivity.questions import CLAIMS, Question, without_exits
from checks.trap.replay import compare, print_verdict
from grammar import ir
from refmodel.model import Model, build
from refmodel.vectors import CaseError


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the reference shows the instruction to be sensitive too, else 1.  Raises CaseError."""
    question = case.id.rsplit(".", 1)[-1]
    if question not in set(Question):
        raise CaseError(f"'{case.id}' does not name a question about an instruction")
    verdict = compare(CLAIMS[Question(question)], case, model)
    if not verdict.both_stay:
        verdict = compare(CLAIMS[Question(question)], case, _without_exits_of(case.instruction, model))
    is_shown = verdict.both_stay and verdict.stays_and_differs
    print_verdict(case, verdict)
    print(f"CONFIRMED: {case.text}" if is_shown else "not confirmed: the reference shows no difference here")
    return 0 if is_shown else 1


def outcome(case: Case, model: Model) -> str:
    """Whether the reference shows the answer.  Raises CaseError."""
    return OF_AN_ANSWER if replay(case, model) == 0 else "shows no difference"


def _without_exits_of(name: str, model: Model) -> Model:
    """The model with an instruction that always exits, as if it did not.  Raises CaseError."""
    instruction = model.program.instructions.get(name)
    if instruction is None:
        raise CaseError(f"the specification has no instruction '{name}'")
    return build(_alone(model.program, instruction))


def _alone(program: ir.Program, instruction: ir.Instruction) -> ir.Program:
    """A program of this instruction only, without its exits."""
    bodies = tuple(replace(body, body=without_exits(body.body)) for body in instruction.bodies)
    return replace(program, instructions={instruction.name: replace(instruction, bodies=bodies)})
