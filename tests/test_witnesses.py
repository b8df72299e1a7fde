"""The state that shows a theorem's assumptions to be possible does on the reference what it is said to."""

from dataclasses import replace
from functools import cache

import pytest
import z3

import grammar
from checks.case import Case
from checks.cli import main
from checks.extract import extract
from checks.families import families
from checks.outcome import EXCLUDED
from checks.prover.selection import select
from checks.solve import Limits
from checks.trap.family import TrapFamily
from checks.trap.mapping import Mapping4
from checks.trap.replay import Player
from checks.witnesses import NO_STATE, Replayed, replay_witnesses
from refmodel.model import Model, build

PROGRAM = grammar.load()
FAMILIES = families()


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
    assert {one.witness for one in found if one.goal.startswith("trap.")} <= wanted


@pytest.mark.parametrize(
    ("goal", "witness"),
    [
        ("manual.is_canonical", "it returns"),
        ("isolation.detach.context_entry_is_own", "the step is taken"),
        ("isolation.device_walk.level1", "there is such a translation"),
        ("isolation.translate.writes_own_frames", "it returns"),
        ("isolation.dma_write.writes_own_frames", "it returns"),
        ("isolation.ept_rights.level2", "it returns"),
        ("isolation.ept_rights.refuses_nothing_else", "it raises"),
        ("totality.entries.resume", "calls vm_entry"),
        ("totality.endings.give_up_guest.guest", "ends a guest"),
        ("totality.handlers.CPUID", "returns"),
        ("emulation.HLT", "resumes"),
        ("emulation.MOV_FROM_CR3/r64", ""),
        ("host_state.cycle.cycle.guest_register_rules.cr0", "returns"),
        ("host_state.handlers.CR_ACCESS.guest_register_rules.cr0", "goes on"),
    ],
)
def test_witnesses_of_each_family_run(goal: str, witness: str) -> None:
    family = goal.split(".", maxsplit=1)[0]
    task = next(task for task in select(PROGRAM, FAMILIES, [goal]) if goal in task.ids)
    ids = frozenset([goal])
    built = FAMILIES[family].build(extract(PROGRAM, task.roots), task.group, z3.Context(), ids)
    goals = tuple(one for one in built.goals if one.id == goal)
    (found,) = replay_witnesses(replace(built, goals=goals), model(), Limits())
    assert found.why_not == ("" if witness else NO_STATE)
    assert found.witness == witness
    assert not found.is_wrong


def replayed(group: str) -> list[Replayed]:
    family = TrapFamily()
    outline = next(outline for outline in family.outlines(PROGRAM) if outline.group == group)
    return list(
        replay_witnesses(
            family.build(extract(PROGRAM, outline.roots), group, z3.Context()), model(), Limits()
        )
    )


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
    assert Replayed("g", "", EXCLUDED).is_wrong
    assert not Replayed("g", "exits", "exits: HLT").is_wrong
    assert not Replayed("g", "completes", why_not="an access has to fail").is_wrong


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "trap.CLTS", "--witnesses", "-j", "1"]) == 0
    told = capsys.readouterr().out
    assert (
        "trap: 8 witnesses on the reference: 4 they look the same, 3 they look the same, though they differ"
        in told
    )
    assert main(["prove", "isolation.only_steps_write.VM_STATE", "--witnesses", "-j", "1"]) == 0
    assert " not run: it is true by construction, of no state" in capsys.readouterr().out
