"""The reference against Bochs in VMX non-root operation: an emulator that shares nothing with it."""

from __future__ import annotations

import sys
from random import Random

import pytest

from checks.cli import main
from checks.errors import UsageError
from checks.fuzz import engines
from checks.fuzz.bochs import library, processor
from checks.fuzz.compare import Comparison
from checks.fuzz.generate import Generator
from checks.fuzz.report import describe
from refmodel.model import Model, build
from tests.broken_specification import LOST_REGISTER, with_faults

try:
    library.load()
except (ModuleNotFoundError, UsageError) as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(scope="module")
def comparison(model: Model) -> Comparison:
    return Comparison(model, engines.tested_engine("bochs"))


def test_every_form_agrees(model: Model, comparison: Comparison) -> None:
    """Each form of each instruction but IN and OUT, as a guest: registers, memory, and what a VM exit saves."""
    names = comparison.tested.instructions(model.program)
    generator = Generator(model.program, names, comparison.tested.scope)
    source = Random(1)
    found = []
    for form in generator.forms:
        divergence = comparison.run(generator.of_form(source, form, source.choice(generator.scope.bases)))
        found += [divergence] if divergence is not None else []
    assert not [describe(d, model, ("reference", "bochs")) for d in found]
    assert comparison.tally.executed > 5 * comparison.tally.not_modelled
    assert sum(comparison.tally.known.values()) < comparison.tally.executed / 8


# A file of spec/, a text in it, a wrong one, an instruction that tells, and what differs.
FAULTS = [
    LOST_REGISTER,
    ("vmx/vm_exit", "truncate(NEXT_RIP - RIP, 32)", "0", "CPUID", "EXIT_INSTRUCTION_LENGTH"),
    (
        "vmx/guest_checks",
        "is_canonical(GUEST_GDTR_BASE) and is_canonical(GUEST_IDTR_BASE)",
        "true",
        "NOP",
        "VM entry",
    ),
]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    program = with_faults(tmp_path_factory.mktemp("wrong") / "spec", (fault[:3] for fault in FAULTS))
    return Comparison(build(program), engines.tested_engine("bochs"))


@pytest.mark.parametrize(("instruction", "item"), [fault[3:] for fault in FAULTS])
def test_wrong_exits_and_entries_are_found(
    comparison: Comparison, wrong: Comparison, instruction: str, item: str
) -> None:
    """In cases in which Bochs and the specification as it is agree."""
    cases = Generator(wrong.model.program, [instruction], wrong.tested.scope).batch(Random(1), 200)
    assert not any(map(comparison.run, cases))
    divergences = [divergence for divergence in map(wrong.run, cases) if divergence is not None]
    assert item in {difference.item for divergence in divergences for difference in divergence.differences}


def test_without_bochs_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bochscpu", None)
    monkeypatch.setattr(processor, "_processors", [])
    assert main(["fuzz", "--engine", "bochs", "--cases", "1"]) == 2
    assert "fuzz needs the package bochscpu-python: pip install bochscpu-python" in capsys.readouterr().err


def test_a_bochs_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "_STAND_INS", {"no_such_function": b""})
    monkeypatch.setattr(processor, "_processors", [])
    assert main(["fuzz", "--engine", "bochs", "--cases", "1"]) == 2
    assert "needs bochscpu-python 0.4" in capsys.readouterr().err
