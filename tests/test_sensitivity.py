"""Which instructions are sensitive: answers known by hand, witnesses that replay, faults that show."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import z3

import grammar
from checks.case import parse_case
from checks.cli import main
from checks.families import build_alone
from checks.sensitivity.questions import NO, YES, Question, questions_of
from checks.sensitivity.replay import replay
from checks.sensitivity.text import Texts
from checks.solve import GroupRunner, Limits
from checks.symbolic.terms import AbstractTerms
from checks.theorem import Group, Result, Status
from checks.trap.compare import Comparer
from checks.trap.family import Prepared
from checks.trap.runs import Settings
from checks.trap.subject import Subject
from grammar import ir
from refmodel.model import Model

PROGRAM = grammar.load()

# What the definitions say of a form, with the reason.
BY_HAND: Mapping[str, tuple[str, set[str]]] = {
    "HLT": ("stops the processor, which others use", {"control"}),
    "OUT/dx,al": ("writes to a device of the VMM", {"control"}),
    "IN/al,dx": ("reads from a device of the VMM, where a bare machine has another", {"location", "mode"}),
    "INVD": ("empties caches that all share; it always exits, so it is asked as if it did not", {"control"}),
    "CPUID": ("tells what processor it is, not what the guest is told", {"location", "mode"}),
    "MOV_TO_CR8/r64": (
        "writes the task priority of the local APIC, and a guest has its own",
        {"control", "mode"},
    ),
    "VMCALL": ("is undefined on the bare machine", {"mode"}),
    "CLTS": ("leaves TS as it is if the VMM owns it, unlike the bare machine", {"mode"}),
    "MOV_FROM_CR0/r64": ("reads the guest's own view: mask and shadow see to it", set()),
    "MOV_FROM_CR2/r64": ("reads a register that is switched", set()),
    "MOV_TO_CR2/r64": ("writes a register that is switched", set()),
    "LGDT/m": ("loads a register that VM exit saves", set()),
    "ADD/r64,r64": ("is plain", set()),
    "DIV/m64": ("is plain, faults included", set()),
}


def ask(program: ir.Program, form: str, *, explain: bool = False) -> dict[str, Result]:
    """The answers about a form."""
    name = form.split("/", maxsplit=1)[0]
    ids = frozenset(f"sensitive.{form}.{question}" for question in Question)
    group = build_alone(
        program, "trap", f"trap.{program.instructions[name].family or name}", z3.Context(), ids
    )
    runner = GroupRunner(group, Limits(), explain_answers=explain)
    return {result.id.rsplit(".", 1)[1]: result for result in runner.run()}


def yes(answers: Mapping[str, Result]) -> set[str]:
    assert {result.status for result in answers.values()} == {Status.PROVED}
    return {question for question, result in answers.items() if result.witness == YES}


@pytest.mark.parametrize("form", BY_HAND)
def test_answers_are_those_that_the_definitions_give_by_hand(form: str) -> None:
    assert yes(ask(PROGRAM, form)) == BY_HAND[form][1]


@pytest.mark.parametrize("form", ["HLT", "IN/al,dx", "CPUID", "INVD", "CLTS", "INS/m8,dx", "SMSW/m16"])
def test_witnesses_replay(form: str, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ask(PROGRAM, form, explain=True)
    assert yes(answers)
    for question in yes(answers):
        found = answers[question].counterexample
        assert found is not None
        assert found.case is not None
        assert replay(parse_case(found.case), model) == 0
        assert "CONFIRMED" in capsys.readouterr().out


def test_a_witness_that_shows_nothing_is_not_confirmed(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(PROGRAM, "HLT", explain=True)["control"].counterexample
    assert found is not None
    assert found.case is not None
    case = replace(parse_case(found.case), code=b"\x90")  # NOP
    assert replay(case, model) == 1
    assert "not confirmed" in capsys.readouterr().out


# --- faults ---


def test_a_register_that_nobody_switches_makes_its_instructions_sensitive() -> None:
    variable = PROGRAM.state["CR2"]
    itself = ir.Read(variable.type, "CR2", ())
    owned = replace(variable, owner=ir.Literal(ir.BOOL, 0), view=None, host=itself)
    program = replace(PROGRAM, state={**PROGRAM.state, "CR2": owned})
    assert yes(ask(program, "MOV_TO_CR2/r64")) == {"control"}
    assert yes(ask(program, "MOV_FROM_CR2/r64")) == {"location", "mode"}


def test_a_read_that_forgets_the_shadow_is_sensitive() -> None:
    function = PROGRAM.functions["visible_cr0"]
    raw = replace(function, body=(ir.Return(function.span, ir.Read(PROGRAM.state["CR0"].type, "CR0", ())),))
    program = replace(PROGRAM, functions={**PROGRAM.functions, "visible_cr0": raw})
    assert yes(ask(program, "MOV_FROM_CR0/r64")) == {"location", "mode"}


def test_an_impossible_state_is_no_answer() -> None:
    policy = replace(PROGRAM.policies["cr0_is_valid"], condition=ir.Literal(ir.BOOL, 0))
    program = replace(PROGRAM, policies={**PROGRAM.policies, "cr0_is_valid": policy})
    assert {result.status for result in ask(program, "CLTS").values()} == {Status.VACUOUS}


def test_what_the_text_decides_the_solver_decides_too() -> None:
    """Plain texts are innocuous as they stand; some of them are asked about nevertheless."""
    prepared, texts = Prepared(PROGRAM), Texts(PROGRAM)
    plain = [f for forms in prepared.groups.values() for f in forms if texts.is_plain(f.body.body)]
    assert len(plain) > 500
    settings = Settings.create(prepared.ownership, AbstractTerms(z3.Context()))
    comparer = Comparer(prepared.ownership, settings.terms)
    sample = random.Random("plain").sample(plain, 4)
    goals = [goal for form in sample for goal in questions_of(Subject(form, settings, comparer, prepared))]
    group = Group("plain", settings.terms.context, tuple(goals))
    assert {(r.status, r.witness) for r in GroupRunner(group, Limits()).run()} == {(Status.PROVED, NO)}


def test_prove_reports_questions_as_a_family_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert main(["prove", "sensitive.HLT", "-j", "1", "--json", str(path)]) == 0
    results = {one["id"]: one for one in json.loads(path.read_text())["results"]}
    assert results["sensitive.HLT.control"]["family"] == "sensitive"
    assert results["sensitive.HLT.control"]["witness"] == "sensitive"
    assert results["sensitive.HLT.mode"]["witness"] == "not sensitive"
