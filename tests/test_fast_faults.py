"""The faults of the fast model (checks/fast/faults.toml): their patches fit, and the theorems they name are refuted."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from checks.fast.family import FastFamily
from checks.fast.faults import PACKAGE, Fault, FaultError, faults, faulty
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


def refuted(fault: Fault, directory: Path) -> str:
    """What `nonroot prove` prints of the fault's theorem, in a process that has the fault."""
    with faulty(fault) as environment:
        command = [sys.executable, "-c", "import sys; from checks.cli import main; sys.exit(main())"]
        done = subprocess.run(
            [*command, "prove", "--no-cache", fault.goal],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


SAMPLE = ("rep-of-zero-does-one", "supervisor-ignores-wp")


@pytest.mark.parametrize("name", os.environ.get("NONROOT_FAULTS", " ".join(SAMPLE)).split())
def test_faults_are_refuted(name: str, tmp_path: Path) -> None:
    """A sample; NONROOT_FAULTS names others, `all` means all of them."""
    for fault in faults().values() if name == "all" else [faults()[name]]:
        assert f"REFUTED  {fault.goal}" in refuted(fault, tmp_path), fault.id
