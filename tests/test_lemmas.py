"""Lemmas that other theorems rest on: each kind is refuted by a fault, and the counterexample replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import z3
from broken_specification import refuted_case, with_faults

import grammar
from checks.extract import extract
from checks.solve import GroupRunner, Limits
from checks.theorem import Result
from checks.trap import lemma_replay
from checks.trap.family import TrapFamily
from grammar import ir
from refmodel.model import Model, build

PROGRAM = grammar.load()


def prove(program: ir.Program, goal: str) -> Result:
    """The verdict on a lemma of `trap`."""
    family = TrapFamily()
    outline = next(one for one in family.outlines(program) if goal in one.ids)
    group = family.build(extract(program, outline.roots), outline.group, z3.Context())
    return GroupRunner(group, Limits()).prove(next(one for one in group.goals if one.id == goal))


def without_policy(name: str) -> ir.Program:
    return replace(PROGRAM, policies={n: p for n, p in PROGRAM.policies.items() if n != name})


@pytest.mark.parametrize(
    ("policy", "goal", "differs"),
    [
        ("memory_is_translated", "trap.translation.C", "CR3[39..12]"),
        ("memory_is_translated", "trap.translation.E", "CR3[39..12]"),
        ("cr0_shadow_is_true", "trap.translation.E", "CR0.WP"),
    ],
)
def test_what_decides_on_page_faults_depends_on_policies(
    model: Model, capsys: pytest.CaptureFixture[str], policy: str, goal: str, differs: str
) -> None:
    program = without_policy(policy)
    case = refuted_case(prove(program, goal))
    assert lemma_replay.replay(case, build(replace(program, instructions={}))) == 0
    assert f"{differs} counts as" in capsys.readouterr().out
    assert lemma_replay.replay(case, model) == 1  # the policy does not allow this state


def test_views_that_hide_what_runs_share_are_refuted(tmp_path: Path, model: Model) -> None:
    cr0 = "view   (CR0 & ~CR0_GUEST_HOST_MASK) | (CR0_READ_SHADOW & CR0_GUEST_HOST_MASK)"
    faults = [
        ("cpu/registers", cr0, "view   CR0_READ_SHADOW"),
        ("cpu/registers", "view   visible_msr(index)", "view   0"),
    ]
    program = with_faults(tmp_path / "spec", faults)
    broken = build(replace(program, instructions={}))
    for name in ("CR0", "MSR"):
        case = refuted_case(prove(program, f"trap.views.{name}"))
        assert lemma_replay.replay(case, broken) == 0
        assert lemma_replay.replay(case, model) == 1
