"""What follows a fault: where a guest gets something else than the bare machine, the reference shows it."""

from __future__ import annotations

import pytest
import z3
from broken_specification import refuted_case, with_faults

from checks.extract import extract
from checks.families import families
from checks.solve import GroupRunner, Limits
from checks.theorem import Result
from checks.trap.replay import replay
from grammar import ir
from refmodel.model import Model, build

# What a processor may do otherwise in VMX non-root operation: file, text, wrong text, the theorems that notice.
FAULTS = [
    (
        "cpu/cycle",
        "    RFLAGS.RF := true\n",
        "    RFLAGS.RF := TSC[0]\n    TSC := 0\n",
        ("set_resume_flag.C", "set_resume_flag.I", "set_resume_flag.E"),
    ),
    (
        "cpu/cycle",
        "    CR2 := event.qualification\n",
        "    CR2 := if IN_NON_ROOT then 0 else event.qualification\n",
        ("record_cause.E",),
    ),
    (
        "cpu/cycle",
        "    DR6 := DR6 | (event.qualification as Dr6)\n",
        "    DR6 := (TSC as Dr6) | (event.qualification as Dr6)\n    TSC := 0\n",
        ("record_cause.C", "record_cause.I"),
    ),
    (
        "cpu/interrupt_delivery",
        "    IF: RFLAGS.IF and gate.TYPE == TRAP_GATE, TF: false",
        "    IF: TSC[0], TF: IN_NON_ROOT",
        ("deliver_event.C", "deliver_event.E"),
    ),
    (
        "cpu/interrupt_delivery",
        "  NEXT_RIP := handler\n",
        "  NEXT_RIP := handler\n  TSC := 0\n",
        ("deliver_event.I",),
    ),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ir.Program:
    return with_faults(tmp_path_factory.mktemp("broken") / "spec", (one[:3] for one in FAULTS))


@pytest.fixture(scope="module")
def broken_model(broken: ir.Program) -> Model:
    return build(broken)


def prove(program: ir.Program, goal: str) -> Result:
    family = families()["trap"]
    outline = next(o for o in family.outlines(program) if goal in o.ids)
    group = family.build(extract(program, outline.roots), outline.group, z3.Context())
    return GroupRunner(group, Limits()).prove(next(g for g in group.goals if g.id == goal))


@pytest.mark.parametrize("goal", [goal for *_, goals in FAULTS for goal in goals])
def test_what_a_guest_gets_otherwise_is_refuted_and_the_reference_shows_it(
    broken: ir.Program, broken_model: Model, model: Model, goal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = prove(broken, f"trap.{goal}")
    case = refuted_case(result)
    assert replay(case, broken_model) == 0
    assert "CONFIRMED" in capsys.readouterr().out
    assert replay(case, model) == 1
