"""The state that shows a theorem's assumptions to be possible does on the reference what it is said to."""

from functools import cache

import pytest
import z3

import grammar
from checks.cli import main
from checks.extract import extract
from checks.families import families
from checks.prover.selection import select
from checks.solve import Limits
from checks.trap.witnesses import Replayed, replay_witnesses
from refmodel.model import Model, build

PROGRAM = grammar.load()


@cache
def model() -> Model:
    return build(PROGRAM)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ("trap.CLTS", {"completes"}),
        ("trap.HLT", {"faults"}),
        ("trap.UD2", {"faults"}),
        ("trap.MOVS", {"completes"}),
        ("trap.XRSTOR", {"completes", "faults"}),
        ("trap.VMCALL", {"exits", "faults"}),
    ],
)
def test_witnesses_run(group: str, wanted: set[str]) -> None:
    known = families()
    task = next(task for task in select(PROGRAM, known, []) if task.group == group)
    built = known["trap"].build(extract(PROGRAM, task.roots), group, z3.Context())
    found = list(replay_witnesses(built, model(), Limits()))
    assert found
    assert [one for one in found if one.is_wrong or one.why_not] == []
    assert {one.witness for one in found} <= wanted


def test_a_witness_that_does_something_else_is_wrong() -> None:
    assert Replayed("g", "completes", "faults: vector 6").is_wrong
    assert not Replayed("g", "exits", "exits: HLT").is_wrong
    assert not Replayed("g", "completes", why_not="an access has to fail").is_wrong


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "trap.CLTS", "--witnesses", "-j", "1"]) == 0
    assert "1 witnesses on the reference: 1 completes" in capsys.readouterr().out
