"""Mutants: made in one place, woven into one program, killed by a named theorem, or shown to be equivalent."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import z3

import grammar
from checks.cache import ProofCache
from checks.cli import main
from checks.errors import UsageError
from checks.mutate import clauses
from checks.mutate.campaign import Campaign, Run, Setup
from checks.mutate.choices import Choices, Chooser, choice
from checks.mutate.explanations import Explanation, explanations
from checks.mutate.fates import Fate, Found, Verdict
from checks.mutate.hard import HardTrial
from checks.mutate.independence import is_independent
from checks.mutate.judge import Tried
from checks.mutate.memory import Memory
from checks.mutate.operators import faults, kind_of
from checks.mutate.places import Mutant, mutants, mutated
from checks.mutate.survivors import Survivors
from checks.mutate.targets import Target
from checks.mutate.tested.listed import FOLDER, listed_tests, unneeded_tests
from checks.mutate.tested.pool import FILES, pool
from checks.mutate.tested.search import Search
from checks.mutate.trial import Trial
from checks.mutate.weave import Weaver
from checks.theorem import Goal, Group
from checks.walk import nodes
from grammar import ir

PROGRAM = grammar.load()
CAMPAIGN = Campaign(PROGRAM)
NUMBERS = {mutant: number for number, mutant in CAMPAIGN.mutants.items()}


def mutant(name: str, operator: str, what: str = "") -> Mutant:
    return next(m for m in NUMBERS if (m.name, m.operator) == (name, operator) and what in m.description)


@cache
def target(group: str) -> Target:
    return next(one for one in CAMPAIGN.targets if one.outline.group == group)


def tried(group: str, *wanted: Mutant) -> Tried:
    return CAMPAIGN.judge.attempt(target(group), frozenset(NUMBERS[one] for one in wanted))


def test_each_mutant_has_an_id_of_its_own() -> None:
    found = mutants(PROGRAM)
    assert len({one.id for one in found}) == len(found)
    assert len(CAMPAIGN.mutants) >= 1000


def test_faults_at_one_place_have_operators_of_different_names() -> None:
    """A mutant is known by its place and its operator."""
    for node in nodes([f.body for f in PROGRAM.functions.values()]):
        if isinstance(node, ir.Expr):
            names = [operator for operator, _, _ in faults(node)]
            assert len(set(names)) == len(names)


def test_a_mutant_differs_in_one_item() -> None:
    changed = mutated(PROGRAM, mutant("release", "drop require", "REVERSE_MAP"))
    assert len(changed.steps["release"].body) == len(PROGRAM.steps["release"].body) - 1
    assert changed.functions["release"].body == changed.steps["release"].body
    assert [n for n in PROGRAM.functions if PROGRAM.functions[n] != changed.functions[n]] == ["release"]


def test_a_rule_is_an_item_of_its_own() -> None:
    changed = mutated(PROGRAM, mutant("control_rules.vpid", "drop conjunct"))
    pairs = zip(PROGRAM.rules["control_rules"].rules, changed.rules["control_rules"].rules, strict=True)
    assert [old.name for old, new in pairs if old != new] == ["vpid"]
    assert [name for name, group in changed.rules.items() if group != PROGRAM.rules[name]] == [
        "control_rules"
    ]


def test_whose_a_variable_is_says_what_is_seen_of_it() -> None:
    """`owner guest when` stands once in the text: owner, view and host's part change together."""
    changed = mutated(PROGRAM, mutant("CR3", "clear control")).state["CR3"]
    never = ir.Literal(ir.BOOL, 0)
    assert changed.owner == never
    for part in (changed.view, changed.host):
        assert isinstance(part, ir.Conditional)
        assert part.condition == never


def test_a_result_is_remembered_by_fewer_keys() -> None:
    old, new = (
        p.functions["second_level"] for p in (PROGRAM, mutated(PROGRAM, mutant("second_level", "omit key")))
    )
    assert new.keys == old.keys[1:]
    assert new.body == old.body


def test_copies_of_one_place_change_together() -> None:
    """A loop is unrolled in the IR: dropping its statement drops all copies."""
    changed = mutated(PROGRAM, mutant("table_level", "drop assignment"))
    below = nodes(changed.functions["table_level"].body)
    assert not any(isinstance(s, ir.SetLocal) and not s.declares for s in below)


@pytest.mark.parametrize(
    ("group", "name", "operator", "what", "by"),
    [
        ("isolation.release", "release", "drop require", "is_invalidated", "cached_frame_is_own"),
        ("isolation.invalidate", "invalidate", "drop call", "invept", "cached_frame_is_own"),
        ("isolation.scrub", "scrub", "drop write", "PHYSICAL", "clean_frames_are_zero"),
        ("trap.CLTS", "CLTS", "drop exit", "", "E"),
        ("trap.MOV_FROM_CR8", "cr8_exits", "drop conjunct", "", "C"),
        ("host_state.beginning", "clear_registers", "drop write", "GPR", "GPR.start"),
        ("host_state.handlers", "reflect", "omit field NMI_UNBLOCKING", "", "event_reserved"),
        ("emulation.idle", "HLT", "other member", "INVD", "HLT"),
        ("emulation.events", "inject", "drop call", "stop_guest", "deliveries"),
        ("manual.is_valid_cr0", "is_valid_cr0", "clear control", "PE", "is_valid_cr0"),
        ("manual.host_rules", "host_rules.selectors", "off by one", "", "host_rules.selectors"),
        ("host_state.start_vm", "set_controls", "omit field HLT_EXITING", "", "hlt_exits"),
    ],
)
def test_a_theorem_kills(group: str, name: str, operator: str, what: str, by: str) -> None:
    [found] = tried(group, mutant(name, operator, what)).found
    assert found.fate is Fate.KILLED
    assert found.by.startswith(group.split(".", maxsplit=1)[0])
    assert found.by.endswith(by)


def test_assumptions_that_nothing_satisfies_kill() -> None:
    [found] = tried("trap.IN", mutant("ports_exit", "set control", "USE_IO_BITMAPS")).found
    assert found.fate is Fate.VACUOUS


@pytest.mark.parametrize("group", ["manual.is_msr_intercepted", "trap.CLTS", "host_state.start_vm"])
def test_together_and_alone_they_meet_the_same_fate(group: str) -> None:
    """What is found of many mutants in one program is what is found of each in a program of its own."""
    names = {"manual.is_msr_intercepted": "is_msr_intercepted", "trap.CLTS": "CLTS"}
    wanted = [m for m in NUMBERS if m.name == names.get(group, "set_controls")][::4]
    together = {one.number for one in tried(group, *wanted).found}
    alone = {n for n in (NUMBERS[m] for m in wanted) if CAMPAIGN.judge.alone(target(group), n)}
    assert together == alone
    assert together


def test_one_question_finds_all_that_refute_a_goal() -> None:
    """x > 1 of x = 2: with the first choice x is 1, with the second 3, with the third anything."""
    context = z3.Context()
    x, y = z3.BitVecs("x y", 8, context)
    value = z3.BitVecVal(2, 8, context)
    for number, other in ((0, 1), (1, 3), (2, y)):
        value = z3.If(choice(context, number), other, value)
    group = Group("g", context, (Goal("g.above", z3.UGT(x, 1)),), (x == value,))
    trial = Trial(group, {0, 1, 2})
    assert {(one.number, one.fate) for one in trial.run()} == {(0, Fate.KILLED), (2, Fate.KILLED)}
    assert trial.met == {0, 1, 2}
    assert trial.alive == {1}


@pytest.mark.parametrize("kind", [Trial, HardTrial])
def test_parts_of_a_conclusion_are_refuted_by_mutants(kind: type[Trial | HardTrial]) -> None:
    """Under a condition, two parts: the first mutant breaks one, the second the other, the third neither."""
    context = z3.Context()
    x, y, when = *z3.BitVecs("x y", 8, context), z3.Bool("when", context)
    below = z3.If(choice(context, 2), z3.ULE(x, 3), z3.ULT(x, 4))
    first = z3.ULT(z3.If(choice(context, 0), x + 1, x), 4)
    second = z3.If(choice(context, 1), y, x) == x
    goal = Goal("g.both", z3.Or(z3.Not(when), z3.And(first, second)), (below,))
    trial = kind(Group("g", context, (goal,)), {0, 1, 2})
    assert {(one.number, one.fate) for one in trial.run()} == {(0, Fate.KILLED), (1, Fate.KILLED)}
    assert trial.alive == {2}


def test_a_choice_is_made_in_a_term() -> None:
    context = z3.Context()
    term = z3.Or(choice(context, 3), z3.And(choice(context, 5), z3.Bool("a", context)))
    choices, chooser = Choices(context), Chooser(context, [3, 5])
    assert choices.met([term]) == {3, 5}
    assert choices.is_met(5, term)
    assert not choices.is_met(4, term)
    assert z3.is_true(z3.simplify(chooser.made(term, 3)))
    assert str(z3.simplify(chooser.made(term, 5))) == "a"
    assert z3.is_false(z3.simplify(chooser.made(term, None)))


@pytest.mark.parametrize("kind", [Trial, HardTrial])
def test_where_a_goal_is_not_proved_nothing_is_concluded(kind: type[Trial | HardTrial]) -> None:
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    group = Group("g", context, (Goal("g.zero", z3.If(choice(context, 5), x == 1, x == 0)),))
    trial = kind(group, {5})
    assert list(trial.run()) == []
    assert trial.unsure == {5}


def test_the_woven_program_is_the_original_where_no_choice_is_made() -> None:
    """Choices are undefined values, false on the reference: the woven text still has all of the original's calls."""
    some = {n: m for n, m in CAMPAIGN.mutants.items() if m.name == "map_page"}
    woven = Weaver(PROGRAM).woven(some)
    assert len(woven.steps["map_page"].body) >= len(PROGRAM.steps["map_page"].body)
    assert woven.steps["map_page"].body == woven.functions["map_page"].body
    assert {n for n in PROGRAM.functions if PROGRAM.functions[n] is not woven.functions[n]} == {"map_page"}


def test_writes_that_change_places_are_equivalent() -> None:
    number = NUMBERS[mutant("release", "reorder")]
    [verdict] = CAMPAIGN.survivors().left({number: ["isolation.release"]})
    assert verdict.fate is Fate.EQUIVALENT


@pytest.mark.parametrize(
    ("name", "what", "independent"),
    [
        ("reflect", "GUEST_DR7", True),
        ("RDMSR", "GPR[2] := ", True),  # two general registers
        ("run_one", "after_exit() before vm_exit", False),  # both write what is pending
        ("resume", "switch_to", False),  # the VMCS that is current has the timer
        ("raise_virtualization_exception", "PHYSICAL[(area + 4)]", True),  # words side by side
    ],
)
def test_effects_change_places_if_neither_touches_what_the_other_writes(
    name: str, what: str, independent: bool
) -> None:
    assert is_independent(PROGRAM, mutant(name, "reorder", what)) == independent


@pytest.mark.parametrize(
    ("name", "operator"), [("switch_to", "drop output"), ("vm_exit", "drop forget"), ("irte_of", "omit key")]
)
def test_what_is_not_compared_is_not_called_equivalent(name: str, operator: str) -> None:
    assert list(CAMPAIGN.survivors().equivalent(frozenset({NUMBERS[mutant(name, operator)]}))) == []


def test_what_does_the_same_is_what_its_own_theorem_does_not_kill() -> None:
    """`manual.is_valid_cr4` says exactly which values are valid."""
    some = {n: m for n, m in CAMPAIGN.mutants.items() if m.name == "is_valid_cr4"}
    same = {NUMBERS[v.mutant] for v in CAMPAIGN.survivors().equivalent(frozenset(some))}
    killed = {one.number for one in tried("manual.is_valid_cr4", *some.values()).found}
    assert same | killed == set(some)
    assert not same & killed
    assert same


def test_no_step_or_instruction_is_equivalent_by_itself() -> None:
    some = frozenset(n for n, m in CAMPAIGN.mutants.items() if m.name in ("release", "CLTS"))
    assert {verdict.mutant.operator for verdict in CAMPAIGN.survivors().equivalent(some)} == {"reorder"}


def test_whose_a_variable_is_may_not_depend_on_a_control_that_the_policy_fixes() -> None:
    """Guests have EPT, so CR3 is theirs; no access to debug registers exits."""
    same = {("CR3", "set control"): True, ("CR3", "clear control"): False, ("DR6", "clear control"): True}
    for (name, operator), is_same in same.items():
        some = {NUMBERS[one]: one for one in [mutant(name, operator)]}
        assert bool(clauses.reasons(PROGRAM, Weaver(PROGRAM), name, some)) is is_same


def test_an_exit_of_another_number_differs_in_what_it_reports() -> None:
    [verdict] = CAMPAIGN.survivors().left({NUMBERS[mutant("VMREAD", "other member")]: ["trap.VMREAD"]})
    assert verdict.fate is Fate.EXPLAINED
    assert "reports" in verdict.by


def test_the_first_mutants_are_one_of_each_operator_in_each_item() -> None:
    chosen = [CAMPAIGN.mutants[n] for n in CAMPAIGN.first()]
    places = {(m.kind, m.name, kind_of(m.operator)) for m in chosen}
    assert len(places) == len(chosen) >= 1000
    assert places == {(m.kind, m.name, kind_of(m.operator)) for m in NUMBERS}


def test_a_sample_is_the_same_each_time() -> None:
    assert CAMPAIGN.sample(20, 7) == CAMPAIGN.sample(20, 7)
    assert CAMPAIGN.sample(20, 7) != CAMPAIGN.sample(20, 8)


TESTS = """
import refmodel

MODEL = refmodel.load()
FUNCTIONS = MODEL.functions


def test_the_vendor():
    assert FUNCTIONS["cpuid_of_guests"](MODEL.machine(0x1000), 0) & 0xFFFFFFFF == 1


def test_that_does_not_call_it():
    assert FUNCTIONS["cpl"](MODEL.machine(0x1000)) == 0


def test_something_else():
    assert FUNCTIONS["is_switched_msr"](MODEL.machine(0x1000), 0) == 0


def test_that_always_fails():
    assert FUNCTIONS["cpuid_of_guests"](MODEL.machine(0x1000), 0) < 0
"""


def test_a_test_that_fails_notices_a_mutant(tmp_path: Path) -> None:
    """Each time in a process of its own: what one mutant did the next does not see."""
    (tmp_path / FILES[0]).write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    some = [
        mutant("cpuid_of_guests", "comparison"),
        mutant("is_switched_msr", "comparison"),
        mutant("cpuid_of_guests", "off by one"),
    ]
    numbers = [NUMBERS[one] for one in some]
    with pool(None, tmp_path, 1) as processes:
        search = Search(PROGRAM, CAMPAIGN.mutants, {}, processes)
        found = list(search.all(numbers, finds_more=True))
        again = dict(search.all(numbers, finds_more=False))
        listed = dict(search.listed)
        search.listed["cpuid_of_guests"] = [f"{FILES[0]}::test_that_always_fails"]
        with pytest.raises(UsageError, match="fails without a mutant"):
            list(search.all(numbers, finds_more=False))
    vendor, other = (f"{FILES[0]}::{name}" for name in ("test_the_vendor", "test_something_else"))
    assert [(n, one.test) for n, one in found if one] == list(
        zip(numbers, (vendor, other, vendor), strict=True)
    )
    assert listed == {"cpuid_of_guests": [vendor], "is_switched_msr": [other]}
    assert {n: one.test for n, one in again.items() if one} == {n: one.test for n, one in found if one}


def test_the_listed_tests_exist() -> None:
    for test in {test for tests in listed_tests().values() for test in tests}:
        file, name = test.split("[")[0].split("::")
        assert f"def {name}(" in (FOLDER.parent / file).read_text(), test


def test_a_listed_test_that_notices_nothing_is_told() -> None:
    [one] = [m for m in NUMBERS if m.name == "after_exit" and m.operator == "drop call"]
    listed = {"after_exit": ["a", "b"], "resume": ["c"]}
    assert unneeded_tests(listed, [one], [Verdict(one, Fate.TESTED, "a")]) == [("after_exit", "b")]
    assert unneeded_tests(listed, [one], []) == []


def test_each_explanation_is_about_some_mutant() -> None:
    for explanation in explanations():
        assert any(map(explanation.fits, NUMBERS)), explanation


def test_a_reason_may_rest_on_theorems_that_hold_in_the_mutant() -> None:
    """And is none for a mutant that was tried on no such theorem."""
    one = Explanation("it is so", item="end_guest", keeps="totality.*")
    number = NUMBERS[mutant("end_guest", "reorder")]
    survivors = Survivors(PROGRAM, CAMPAIGN.mutants, [one])
    [kept] = survivors.left({number: ["totality.endings"]})
    [lost] = survivors.left({number: ["host_state.exit"]})
    assert (kept.fate, kept.by) == (Fate.EXPLAINED, "proved: `totality.*` holds in it too; it is so")
    assert lost.fate is Fate.SURVIVED


def test_a_campaign_that_was_stopped_goes_on(tmp_path: Path) -> None:
    cache_ = ProofCache(tmp_path / "proofs.sqlite")
    memory = Memory.of(PROGRAM, CAMPAIGN.mutants, cache_)
    some, group = frozenset({1, 2, 3}), target("trap.CLTS")
    result = Tried((Found(1, Fate.KILLED, "trap.CLTS.E", 0.5),), frozenset({1, 2}))
    memory.remember(group, some, result)
    again = Memory.of(PROGRAM, CAMPAIGN.mutants, ProofCache(tmp_path / "proofs.sqlite"))
    assert again.tried(group, some) == result
    assert again.tried(group, some | {4}) is None
    assert again.tried(group, frozenset({2})) == Tried((), frozenset({2}))
    assert (
        Memory.of(mutated(PROGRAM, CAMPAIGN.mutants[1]), CAMPAIGN.mutants, cache_).tried(group, some) is None
    )
    memory.remember_compared("trap.CLTS", some, {2: "reason"})
    assert again.compared("trap.CLTS", some) == {2: "reason"}
    assert again.compared("trap.CLTS", some | {4}) is None


def test_two_processes_judge_as_one_does() -> None:
    campaign = Campaign(PROGRAM, ["manual"])
    chosen = set(campaign.sample(None, 0, ["is_valid_cr4"]))

    def run() -> Run:
        return Run(campaign, set(chosen), Setup(None, ["manual"]))

    here = {v.mutant: v.fate for v in run().verdicts(1)}
    there = {v.mutant: v.fate for v in run().verdicts(2)}
    assert here == there


def test_the_command_counts_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mutants.json"
    arguments = ["mutate", "is_valid_cr4", "--family", "manual", "--sample", "5", "--json", str(path)]
    assert main(arguments) == 0
    assert "5 of 5 mutants" in capsys.readouterr().out
    document = json.loads(path.read_text())
    assert document["schema_version"] == 1
    assert document["mutants"] == 5
    assert sum(document[fate] for fate in ("killed", "equivalent", "tested", "explained")) == 5
    assert document["survivors"] == []


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", "--family", "astrology"]) == 2
    assert "there is no family 'astrology'" in capsys.readouterr().err
    assert main(["mutate", "no_such_item"]) == 2
    assert "no_such_item" in capsys.readouterr().err
