"""The reference against Bochs in VMX non-root operation: an emulator that shares nothing with it."""

from __future__ import annotations

from random import Random

import pytest

from checks.case import read_case
from checks.cli import main
from checks.errors import UsageError
from checks.fuzz import engines
from checks.fuzz.bochs import library, processor
from checks.fuzz.compare import Comparison
from checks.fuzz.generate import Generator
from checks.fuzz.known import DIRECTORY, Known, known_faults
from checks.fuzz.report import describe
from refmodel.model import Model, build
from tests.broken_specification import with_faults

try:
    library.load()
except UsageError:
    pytest.skip("bochscpu-python is not installed", allow_module_level=True)


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


# A file of spec/, a text in it, a wrong one, an instruction that tells, and what differs.
FAULTS = [
    (
        "vmx/exit_information",
        "access as bits(2), GPR: gpr }",
        "access as bits(2) }",
        "MOV_TO_CR8",
        "EXIT_QUALIFICATION",
    ),
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
def test_wrong_exits_and_entries_are_found(wrong: Comparison, instruction: str, item: str) -> None:
    generator = Generator(wrong.model.program, [instruction], wrong.tested.scope)
    source = Random(1)
    divergences = (wrong.examine(case) for case in generator.batch(source, 400))
    found = {
        difference.item for divergence in divergences if divergence for difference in divergence.differences
    }
    assert item in found


def known() -> list[Known]:
    import grammar

    return list(known_faults("bochs", grammar.load()))


@pytest.mark.parametrize("fault", known(), ids=lambda fault: fault.id)
def test_known_faults_are_still_there(comparison: Comparison, fault: Known) -> None:
    """One that has gone is to be taken out of the list."""
    divergence = comparison.examine(read_case(fault.case_file("bochs")))
    assert divergence is not None
    assert divergence.known == fault.id


def test_nothing_is_kept_that_is_not_listed() -> None:
    files = {path.stem for path in (DIRECTORY / "bochs").glob("*.json")}
    assert files == {fault.id for fault in known()}


def test_without_bochs_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_name: str) -> None:
        raise ImportError

    monkeypatch.setattr(library, "import_module", missing)
    monkeypatch.setattr(processor, "_processors", [])
    assert main(["fuzz", "--engine", "bochs", "--cases", "1"]) == 2
    assert "pip install 'nonroot[oracles]'" in capsys.readouterr().err
