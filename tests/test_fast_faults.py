"""The faults of the fast model (checks/fast/faults.toml): their patches fit, and the theorems they name are refuted."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from checks.fast.family import FastFamily
from checks.fast.faults import PACKAGE, FaultError, faults
from checks.fast.refute import REFUTED, refute
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
