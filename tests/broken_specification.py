"""The project's specification with faults put into it, and the cases that theorems refuted by them have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import grammar
from checks.case import Case, parse_case
from checks.theorem import Result, Status
from grammar import ir

LOST_REGISTER = (
    "vmx/exit_information",
    "access as bits(2), GPR: gpr }",
    "access as bits(2) }",
    "MOV_TO_CR8",
    "EXIT_QUALIFICATION",
)
"""A fault for `with_faults`, an instruction that shows it, and the item that is wrong then."""


def with_faults(folder: Path, faults: Iterable[tuple[str, str, str]]) -> ir.Program:
    """The specification, written to `folder`, with faults.

    Each is a file without its suffix, a text that stands in it once, and a wrong text.
    """
    shutil.copytree(grammar.default_directory(), folder)
    for file, text, wrong in faults:
        path = folder / f"{file}.isa"
        whole = path.read_text()
        assert whole.count(text) == 1, text
        path.write_text(whole.replace(text, wrong))
    return grammar.load(folder)


def refuted_case(result: Result) -> Case:
    """The case of a refutation, as a file has it."""
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert result.counterexample.case is not None
    return parse_case(json.loads(json.dumps(result.counterexample.case)))
