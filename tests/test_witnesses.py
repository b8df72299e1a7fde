"""The state that shows a theorem's assumptions to be possible does on the reference what it is said to."""

from functools import cache

import pytest
import z3

import grammar
from checks.case import Case
from checks.cli import main
from checks.extract import extract
from checks.families import families
from checks.prover.selection import select
from checks.solve import Limits
from checks.trap.mapping import Mapping4
from checks.trap.replay import Player
from checks.witnesses import Replayed, replay_witnesses
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
        (
            "trap.CALL",
            {"completes"},
        ),  # some forms in compatibility mode only: any segment, addresses of 32 or 16 bits
        ("trap.CALL_FAR", {"completes"}),
    ],
)
def test_witnesses_run(group: str, wanted: set[str]) -> None:
    found = replayed(group)
    assert found
    assert [one for one in found if one.is_wrong or one.why_not] == []
    assert {one.witness for one in found} <= wanted


def replayed(group: str) -> list[Replayed]:
    known = families()
    task = next(task for task in select(PROGRAM, known, []) if task.group == group)
    built = known["trap"].build(extract(PROGRAM, task.roots), group, z3.Context())
    return list(replay_witnesses(built, model(), Limits()))


def test_prefixes_count_in_a_replay() -> None:
    player = Player(Case(kind="trap", id="trap.MOVS/m8,m8.E", code=bytes.fromhex("67f3a4")), model())
    machine = player.machine({"GPR[1]": 1 << 32})  # ECX is 0, so that nothing is moved; RCX is not
    assert player.run(machine).text == "completes"
    assert (machine.address_size, machine.repeat) == (32, 0xF3)


def test_what_is_not_canonical_has_no_page() -> None:
    # The low 48 bits of 2^63 are those of address 0, whose byte it must not replace.
    mapped = Mapping4({0: 1, 1 << 63: 2, (1 << 64) - 1: 3}, user=False)
    assert {data for _, data in mapped.memory() if len(data) == 1} == {b"\x01", b"\x03"}


def test_a_witness_that_does_something_else_is_wrong() -> None:
    assert Replayed("g", "completes", "faults: vector 6").is_wrong
    assert not Replayed("g", "exits", "exits: HLT").is_wrong
    assert not Replayed("g", "completes", why_not="an access has to fail").is_wrong


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "trap.CLTS", "--witnesses", "-j", "1"]) == 0
    assert "1 witnesses on the reference: 1 completes" in capsys.readouterr().out
