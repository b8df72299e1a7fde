"""The compiled reference as an engine of `nonroot fuzz`: VM exits, the VMM and VM entries, system instructions."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from checks.cli import main
from checks.fuzz import engines
from checks.fuzz.compare import Comparison
from checks.fuzz.compiled import CompiledEngine, GuestCycle
from checks.fuzz.generate import Generator
from checks.fuzz.report import describe
from refmodel.model import Model, build
from tests.broken_specification import LOST_REGISTER, with_faults

pytest.importorskip("llvmlite")
FORMS = 3  # one form in so many is tried here


@pytest.fixture(scope="module")
def comparison(model: Model) -> Comparison:
    return Comparison(model, engines.tested_engine("reference,compiled"))


def test_all_instructions_agree(model: Model, comparison: Comparison) -> None:
    """With what is there after a guest's VM exit, the VMM's handler and the VM entry behind it."""
    generator = Generator(
        model.program, comparison.tested.instructions(model.program), comparison.tested.scope
    )
    source = Random(1)
    found, exits = [], Counter[int]()
    for form in source.sample(generator.forms, len(generator.forms) // FORMS):
        divergence = comparison.run(generator.of_form(source, form, source.choice(generator.scope.bases)))
        found += [divergence] if divergence is not None else []
        exits[comparison.tested.machine.vmcs.EXIT_REASON] += 1
    assert not [describe(d, model, ("reference", "compiled")) for d in found]
    assert comparison.tally.executed > 20 * (comparison.tally.refused + comparison.tally.not_modelled)
    assert len(exits) > 10  # reasons, for which handlers ran


# A file of spec/, a text in it, a wrong one, an instruction that tells, and what differs.
FAULTS = [
    LOST_REGISTER,
    (
        "vmx/vm_entry",
        "  PREEMPTION_TIMER_VALUE := VMX_PREEMPTION_TIMER_VALUE",
        "  PREEMPTION_TIMER_VALUE := 1",
        "RDMSR",
        "PREEMPTION_TIMER_VALUE",
    ),
    (
        "vmm/handlers",
        "GPR[RBX] := zero_extend(result[63..32], 64)",
        "GPR[RBX] := zero_extend(result[95..64], 64)",
        "CPUID",
        "GPR[3]",
    ),
    (
        "instructions/descriptor_tables",
        "if table == GDT then GDTR_LIMIT else IDTR_LIMIT",
        "IDTR_LIMIT",
        "SGDT",
        "PHYSICAL",
    ),
]


@pytest.fixture(scope="module")
def wrong(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The reference as it is, beside a specification with faults, compiled."""
    program = with_faults(tmp_path_factory.mktemp("wrong") / "spec", (fault[:3] for fault in FAULTS))

    def faulty(right: Model) -> CompiledEngine:
        engine = CompiledEngine(build(program))
        engine.cycle = GuestCycle(right)  # which the reference runs
        return engine

    return Comparison(model, faulty)


@pytest.mark.parametrize(("instruction", "item"), [fault[3:] for fault in FAULTS])
def test_faults_of_the_compiled_reference_are_found(
    comparison: Comparison, wrong: Comparison, instruction: str, item: str
) -> None:
    """In cases in which the right one agrees."""
    generator = Generator(wrong.model.program, [instruction], wrong.tested.scope)
    cases = [case for seed in range(6) for case in generator.batch(Random(seed), 40)]
    assert not any(map(comparison.run, cases))
    divergences = [divergence for divergence in map(wrong.run, cases) if divergence is not None]
    items = {difference.item for divergence in divergences for difference in divergence.differences}
    assert any(found.startswith(item) for found in items)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--engine", "compiled", "--mode", "ci", "--cases", "40"]) == 0
    assert "compiled against the reference" in capsys.readouterr().out
