"""Mutants: made in one place, killed by a named theorem, or shown to be equivalent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import grammar
from checks.cache import ProofCache
from checks.cli import main
from checks.mutate.campaign import Campaign, explanations
from checks.mutate.judge import Fate, Verdict
from checks.mutate.memory import Memory
from checks.mutate.places import Mutant, mutants, mutated
from grammar import ir

PROGRAM = grammar.load()
CAMPAIGN = Campaign(PROGRAM)


def mutant(name: str, operator: str, what: str = "") -> Mutant:
    return next(
        m for m in CAMPAIGN.reached if (m.name, m.operator) == (name, operator) and what in m.description
    )


def judged(name: str, operator: str, what: str = "") -> Verdict:
    return CAMPAIGN.judge(mutant(name, operator, what))


def test_verdicts_are_remembered_for_this_specification_alone(tmp_path: Path) -> None:
    cache = ProofCache(tmp_path / "proofs.sqlite")
    first, second, third = CAMPAIGN.reached[:3]
    memory = Memory.of(PROGRAM, (), cache)
    killed = Verdict(first, Fate.KILLED, "trap.CLTS.E", 0.5, 1)
    memory.remember(killed)
    memory.remember(Verdict(second, Fate.UNKNOWN))
    again = Memory.of(PROGRAM, (), ProofCache(tmp_path / "proofs.sqlite"))
    assert again.recall([first, second, third]) == ([killed], [second, third])
    others = (Memory.of(mutated(PROGRAM, second), (), cache), Memory.of(PROGRAM, ("trap",), cache))
    assert all(one.recall([first]) == ([], [first]) for one in others)


def test_each_mutant_has_an_id_of_its_own() -> None:
    found = mutants(PROGRAM)
    assert len({one.id for one in found}) == len(found)
    assert len(CAMPAIGN.reached) >= 1000


def test_a_mutant_differs_in_one_item() -> None:
    changed = mutated(PROGRAM, mutant("release", "drop require", "REVERSE_MAP"))
    assert len(changed.steps["release"].body) == len(PROGRAM.steps["release"].body) - 1
    assert changed.functions["release"].body == changed.steps["release"].body
    assert [n for n in PROGRAM.functions if PROGRAM.functions[n] != changed.functions[n]] == ["release"]


def test_copies_of_one_place_change_together() -> None:
    """A loop is unrolled in the IR: dropping its statement drops all copies."""
    changed = mutated(PROGRAM, mutant("is_invalidated_everywhere", "drop assignment"))
    body = changed.functions["is_invalidated_everywhere"].body
    assert not any(isinstance(s, ir.SetLocal) and not s.declares for s in body)


@pytest.mark.parametrize(
    ("name", "operator", "what", "by"),
    [
        ("release", "drop require", "is_invalidated", "isolation.release.cached_frame_is_own"),
        ("invalidate", "drop call", "invept", "isolation.invalidate.cached_frame_is_own"),
        ("scrub", "drop write", "PHYSICAL", "isolation.scrub.clean_frames_are_zero"),
        ("CLTS", "drop exit", "", "trap.CLTS.E"),
        ("cr8_exits", "drop conjunct", "", "trap.MOV_FROM_CR8/r64.C"),
    ],
)
def test_a_theorem_kills(name: str, operator: str, what: str, by: str) -> None:
    verdict = judged(name, operator, what)
    assert (verdict.fate, verdict.by) == (Fate.KILLED, by)


def test_assumptions_that_nothing_satisfies_kill() -> None:
    assert judged("ports_exit", "set control", "USE_IO_BITMAPS").fate is Fate.VACUOUS


def test_writes_that_change_places_are_equivalent() -> None:
    assert judged("release", "reorder").fate is Fate.EQUIVALENT


def test_an_exit_of_another_number_differs_in_what_it_reports() -> None:
    verdict = judged("VMREAD", "other member")
    assert verdict.fate is Fate.EXPLAINED
    assert "reports" in verdict.by


def test_a_sample_is_the_same_each_time() -> None:
    assert CAMPAIGN.sample(20, 7) == CAMPAIGN.sample(20, 7)
    assert CAMPAIGN.sample(20, 7) != CAMPAIGN.sample(20, 8)


def test_each_explanation_is_about_some_mutant() -> None:
    for explanation in explanations():
        assert any(map(explanation.fits, CAMPAIGN.reached)), explanation


def test_the_command_counts_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mutants.json"
    assert main(["mutate", "scrub", "--family", "isolation", "--sample", "2", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 mutants" in said
    document = json.loads(path.read_text())
    assert document["schema_version"] == 1
    assert document["mutants"] == 2
    assert document["killed"] + document["equivalent"] + document["explained"] == 2
    assert document["survivors"] == []


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", "--family", "astrology"]) == 2
    assert "there is no family 'astrology'" in capsys.readouterr().err
    assert main(["mutate", "no_such_item"]) == 2
    assert "no_such_item" in capsys.readouterr().err
