"""The faults of the fast model (checks/fast/faults.toml): their patches fit, and the theorems they name are refuted."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from checks.cli import main
from checks.fast.family import FastFamily
from checks.fast.faults import PACKAGE, FaultError, faults
from checks.fast.refute import REFUTED, refute
from checks.fuzz import faults as fuzzing
from checks.fuzz.faults import Finding
from refmodel.model import Model


def test_patches_fit_and_theorems_exist(model: Model) -> None:
    theorems = {goal for outline in FastFamily().outlines(model.program) for goal in outline.ids}
    for fault in faults().values():
        ast.parse(fault.apply((PACKAGE / fault.file).read_text("utf-8")))
        assert fault.goal in theorems, fault.id


def test_there_are_fifty_faults() -> None:
    assert len(faults()) == 50
    assert len({(fault.file, fault.old, fault.new) for fault in faults().values()}) == 50


def test_a_patch_that_does_not_fit_is_an_error() -> None:
    fault = replace(next(iter(faults().values())), old="no such text")
    with pytest.raises(FaultError, match=r"add-forgets-af: its text is there 0 times in fastmodel/x\.py"):
        replace(fault, file="x.py").apply("text")


SAMPLE = ("rep-of-zero-does-one", "supervisor-ignores-wp", "popf-keeps-df")


@pytest.mark.parametrize("name", SAMPLE)
def test_faults_are_refuted_by_cases_that_replay(name: str) -> None:
    """A sample; `nonroot prove --faults` tries all."""
    found = refute(faults()[name])
    assert (found.verdict, found.replays) == (REFUTED, True)


def test_what_fuzzing_finds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, missed = list(faults().values())[:2]
    results = {found: Finding(found, True, 11.04, 12.5, "SBB"), missed: Finding(missed, False, 0.0, 60.0, "")}
    monkeypatch.setattr(fuzzing, "find", lambda fault, _seconds: results[fault])
    report = tmp_path / "faults.json"
    assert main(["fuzz", "--faults", found.id, missed.id, "--json", str(report)]) == 1
    assert "1 of 2 faults found" in capsys.readouterr().out
    assert json.loads(report.read_text()) == {
        "schema_version": 1,
        "faults": [
            {"id": found.id, "found": True, "cpu_seconds_until_found": 11.0, "instruction": "SBB"},
            {"id": missed.id, "found": False, "cpu_seconds_until_found": None, "instruction": ""},
        ],
    }
    assert main(["fuzz", "--faults", found.id]) == 0
