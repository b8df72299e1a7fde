"""`nonroot prove`: faults injected into the specification are refuted and confirmed; verdicts and exit statuses."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import z3

import grammar
from checks.cache import ProofCache
from checks.case import parse_case
from checks.cli import main
from checks.commands.prove import exit_status
from checks.extract import extract
from checks.families import families
from checks.output import output_console
from checks.prover.selection import NoMatchError, select
from checks.prover.terminal import print_failures
from checks.solve import GroupRunner, Limits
from checks.theorem import Counterexample, Goal, Group, Result, Status, Witness
from checks.trap.replay import replay
from grammar import ir
from grammar.source import Span
from refmodel.model import build

PROGRAM = grammar.load()
EXAMPLE = "trap.CLTS.*"

# Instructions that exit or fault whatever the state, under the policies.
NEVER_COMPLETE = {
    "CPUID", "HLT", "INVD", "WBINVD", "RDMSR", "WRMSR", "IN", "OUT", "INT", "INT1", "INT3", "UD0", "UD1", "UD2",
    "MOV_FROM_CR8", "MOV_TO_CR8", "VMCALL", "VMLAUNCH", "VMRESUME", "VMXOFF", "VMXON", "VMCLEAR", "VMPTRLD",
    "VMPTRST", "VMREAD", "VMWRITE", "INVEPT", "INVVPID", "MONITOR", "MWAIT",
}  # fmt: skip


def prove(program: ir.Program, *patterns: str) -> list[Result]:
    """The verdicts, without processes."""
    known = families()
    results: list[Result] = []
    for task in select(program, known, patterns):
        made_from = extract(program, task.roots)
        group = known[task.family].build(made_from, task.group, z3.Context(), task.ids)
        runner = GroupRunner(group, Limits())
        results += [runner.prove(goal) for goal in group.goals if goal.id in task.ids]
    return results


def refuted(results: Sequence[Result]) -> dict[str, Result]:
    return {result.id: result for result in results if result.status is Status.REFUTED}


# --- injected faults: what is lost, the specification without it, theorems to try, those that must be refuted ---


def without_exits(name: str) -> ir.Program:
    """The specification with the exit clauses of one instruction removed."""
    instruction = PROGRAM.instructions[name]
    bodies = tuple(replace(body, body=tuple(_without_exits(body.body))) for body in instruction.bodies)
    return replace(PROGRAM, instructions={**PROGRAM.instructions, name: replace(instruction, bodies=bodies)})


def _without_exits(block: Sequence[ir.Stmt]) -> Iterator[ir.Stmt]:
    return (s for s in block if not (isinstance(s, ir.If) and s.clause == "exit"))


def without_policy(name: str) -> ir.Program:
    assert name in PROGRAM.policies
    return replace(PROGRAM, policies={n: p for n, p in PROGRAM.policies.items() if n != name})


def owned_by_the_vmm(name: str) -> ir.Program:
    variable = PROGRAM.state[name]
    itself = ir.Read(variable.type, name, ())
    changed = replace(variable, owner=ir.Literal(ir.BOOL, 0), view=None, host=itself)
    return replace(PROGRAM, state={**PROGRAM.state, name: changed})


def without_tsc_offset() -> ir.Program:
    """The guest reads the time-stamp counter as it is, though it is declared to see it with an offset."""
    function, variable = PROGRAM.functions["visible_tsc"], PROGRAM.state["TSC"]
    raw = replace(function, body=(ir.Return(function.span, ir.Read(ir.Bits(64), "TSC", ())),))
    declared = replace(function, name="declared_tsc", source="declared_tsc")
    return replace(
        PROGRAM,
        functions={**PROGRAM.functions, "visible_tsc": raw, "declared_tsc": declared},
        state={**PROGRAM.state, "TSC": replace(variable, view=ir.Call(ir.Bits(64), "declared_tsc", ()))},
    )


FAULTS: dict[str, tuple[Callable[[], ir.Program], str, set[str]]] = {
    "exit of CLTS": (lambda: without_exits("CLTS"), "trap.CLTS", {"trap.CLTS.E"}),
    "exit of LMSW": (lambda: without_exits("LMSW"), "trap.LMSW", {"trap.LMSW/r16.E", "trap.LMSW/m16.E"}),
    "exit of HLT": (lambda: without_exits("HLT"), "trap.HLT", {"trap.HLT.I"}),
    "exit of VMCALL": (lambda: without_exits("VMCALL"), "trap.VMCALL", {"trap.VMCALL.E"}),
    "exit of CPUID": (lambda: without_exits("CPUID"), "trap.CPUID", {"trap.CPUID.C", "trap.CPUID.E"}),
    "exit of WRMSR": (lambda: without_exits("WRMSR"), "trap.WRMSR", {"trap.WRMSR.I"}),
    "exit of OUT": (lambda: without_exits("OUT"), "trap.OUT/dx,al", {"trap.OUT/dx,al.I"}),
    "TSC offset": (without_tsc_offset, "trap.RDTSC", {"trap.RDTSC.C", "trap.RDTSC.E"}),
    "policy for HLT": (lambda: without_policy("hlt_exits"), "trap.HLT", {"trap.HLT.I"}),
    "policy for CR4": (
        lambda: without_policy("cr4_shadow_is_true"),
        "trap.CLI",
        {"trap.CLI.C", "trap.CLI.E"},
    ),
    "policy for VMWRITE": (
        lambda: without_policy("vmcs_is_not_shadowed"),
        "trap.VMWRITE/r64,r64",
        {"trap.VMWRITE/r64,r64.I"},
    ),
    "policy for VMFUNC": (lambda: without_policy("ept_is_not_switched"), "trap.VMFUNC", {"trap.VMFUNC.I"}),
    "ownership of CR2": (
        lambda: owned_by_the_vmm("CR2"),
        "trap.MOV_*_CR2*",
        {"trap.MOV_FROM_CR2/r64.C", "trap.MOV_TO_CR2/r64.I"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_injected_fault_is_refuted_and_confirmed(fault: str) -> None:
    make, theorems, expected = FAULTS[fault]
    program = make()
    found = refuted(prove(program, theorems))
    assert expected <= set(found)
    model = build(program)
    for name in expected:
        counterexample = found[name].counterexample
        assert counterexample is not None
        assert counterexample.case is not None
        assert replay(parse_case(counterexample.case), model) == 0


def test_without_the_faults_the_same_theorems_hold() -> None:
    theorems = {row[1] for row in FAULTS.values()}
    assert {result.status for result in prove(PROGRAM, *theorems)} == {Status.PROVED}


def test_memory_operands_need_the_lemma_about_translation() -> None:
    """A guest whose CR0.WP is not what it sees gets other page faults than on the bare machine."""
    found = refuted(prove(without_policy("cr0_shadow_is_true"), "trap.XCHG/m64,r64"))
    assert {"trap.translation.C", "trap.translation.E"} <= set(found)


def test_counterexample_is_small_and_in_the_specifications_words() -> None:
    counterexample = refuted(prove(without_exits("HLT"), "trap.HLT"))["trap.HLT.I"].counterexample
    assert counterexample is not None
    assert counterexample.summary.startswith("f4  hlt: ")
    assert counterexample.columns == ("", "before", "after")
    assert ("ACTIVITY_STATE then", "ACTIVE", "HALTED") in counterexample.rows
    assert len(counterexample.rows) < 5
    assert str(counterexample.where).startswith("spec/instructions/idle.isa:")


def test_instructions_that_never_complete() -> None:
    patterns = [f"trap.{name}" for name in (*NEVER_COMPLETE, "CLTS", "PAUSE", "NOP")]
    results = [
        r for r in prove(PROGRAM, *patterns) if not r.id.startswith(("trap.translation", "trap.views"))
    ]
    assert all(result.status is Status.PROVED for result in results)
    completing = {r.id.split(".")[1].split("/")[0] for r in results if r.witness == "completes"}
    assert completing == {"CLTS", "PAUSE", "NOP"}


# --- the runner ---


def verdict(
    hypotheses: tuple[z3.BoolRef, ...], goal: Goal, context: z3.Context, limits: Limits | None = None
) -> Result:
    return GroupRunner(Group("g", context, (goal,), hypotheses), limits or Limits()).prove(goal)


def test_assumptions_that_nothing_satisfies_are_vacuous() -> None:
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    assert verdict((x == 1, x == 2), Goal("g.a", x == 3), context).status is Status.VACUOUS
    assert verdict((x == 1,), Goal("g.a", x == 1, (x == 2,)), context).status is Status.VACUOUS
    true = z3.BoolVal(True, context)
    assert (
        verdict((), Goal("g.a", true, witnesses=(Witness("w", z3.ULT(x, 0)),)), context).status
        is Status.VACUOUS
    )


def test_first_witness_that_is_possible_is_named() -> None:
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    witnesses = (Witness("never", z3.ULT(x, 0)), Witness("small", z3.ULT(x, 3), (x == 200,)))
    result = verdict((), Goal("g.a", z3.UGE(x, 0), witnesses=witnesses), context)
    assert (result.status, result.witness) == (Status.PROVED, "small")


def test_hard_question_is_unknown_by_rlimit_and_not_by_time() -> None:
    context = z3.Context()
    x, y = z3.BitVecs("x y", 64, context)
    limits = Limits(first_rlimit=2000, second_rlimit=2000)
    goal = Goal("g.a", z3.Or(x * y != 0x1234_5678_9ABC_DEF1, z3.ULE(x, 1), z3.ULE(y, 1)))
    assert verdict((), goal, context, limits).status is Status.UNKNOWN


def test_exit_status_is_that_of_the_worst_verdict() -> None:
    assert exit_status({Status.PROVED}) == 0
    assert exit_status({Status.PROVED, Status.REFUTED, Status.VACUOUS}) == 1
    assert exit_status({Status.UNKNOWN, Status.PROVED}) == 3
    assert exit_status({Status.TIMEOUT}) == 3
    assert exit_status({Status.VACUOUS, Status.UNKNOWN}) == 4
    assert exit_status({Status.ERROR, Status.REFUTED}) == 5


# --- selection and cache ---


def test_selection_takes_lemmas_along_and_refuses_patterns_that_match_nothing() -> None:
    program, known = PROGRAM, families()
    tasks = select(program, known, ["trap.HLT.I"])
    ids = {one for task in tasks for one in task.ids}
    assert {"trap.HLT.I", "trap.translation.C", "trap.translation.E", "trap.views.CR0"} <= ids
    assert all(one == "trap.HLT.I" or one.startswith(("trap.translation.", "trap.views.")) for one in ids)
    assert select(program, known, ["trap.ADD/*.C"])
    with pytest.raises(NoMatchError, match="HALT"):
        select(program, known, ["trap.HLT.*", "trap.HALT.*"])


def test_the_name_of_an_instruction_selects_what_all_families_say_of_it() -> None:
    ids = {one for task in select(PROGRAM, families(), ["XADD", "CLTS"]) for one in task.ids}
    assert {
        "trap.CLTS.I",
        "emulation.CLTS",
        "sensitive.CLTS.mode",
        "trap.XADD/r8,r8.E",
        "fast.XADD/r8,r8",
    } <= ids
    about = {re.split("[./]", one)[1] for one in ids}
    assert {name for name in about if name.isupper()} == {"CLTS", "XADD"}  # the others are lemmas


def test_a_counterexample_says_once_what_both_sides_have(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (("CR0", "0x11 (PE ET)", "0x11 (PE ET)"), ("GPR[0] then", "0", "1"), ("MASK", "0x8", ""))
    found = Counterexample(
        "it differs", ("", "guest", "bare machine"), rows, Span("spec/cpu/types.isa", 1, 1, 1, 2)
    )
    result = Result("trap.X.E", "trap.X", Status.REFUTED, 0.0, counterexample=found)
    print_failures(output_console(), [result], {}, None, verbose=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["CR0", "0x11", "(PE", "ET)", "the", "same"] in lines
    assert ["GPR[0]", "then", "0", "1"] in lines
    assert ["MASK", "0x8"] in lines


def test_damaged_cache_is_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "proofs.sqlite"
    path.write_bytes(b"not a database " * 100)
    damaged = ProofCache(path)
    assert "damaged" in damaged.warning
    assert damaged.answer("z3", "question") is None
    damaged.remember_answer("z3", "question", "unsat")
    again = ProofCache(path)
    assert (again.warning, again.answer("z3", "question")) == ("", "unsat")
    assert again.answer("z3", "another") is None
    assert again.answer("cvc5", "question") is None


def test_damaged_row_of_the_cache_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "proofs.sqlite"
    ProofCache(path).remember_answer("z3", "question", "sat")
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("UPDATE answers SET value = 'unsat'").rowcount == 1
    cache = ProofCache(path)
    assert cache.answer("z3", "question") is None
    assert "damaged" in cache.warning


# --- the command line, with processes ---


def test_command_writes_json_and_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, junit = tmp_path / "r.json", tmp_path / "r.xml"
    arguments = ["prove", EXAMPLE, "-j", "1", "--json", str(record), "--junit", str(junit)]
    assert main(arguments) == 0
    document = json.loads(record.read_text())
    ids = [result["id"] for result in document["results"]]
    assert ids == sorted(ids)
    assert document["schema_version"] == 1
    assert document["summary"] == {"PROVED": len(ids)}
    assert {"id", "status", "seconds"} <= set(document["results"][0])
    assert len(list(ET.parse(junit).getroot().iter("testcase"))) == len(ids)
    assert f"{len(ids)} PROVED" in capsys.readouterr().out


def test_command_shows_and_replays_a_counterexample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "spec"
    shutil.copytree(grammar.default_directory(), directory)
    idle = directory / "instructions" / "idle.isa"
    text, count = re.subn(r"^  exit +HLT when .*\n", "", idle.read_text(), flags=re.MULTILINE)
    assert count == 1
    idle.write_text(text)
    cases = tmp_path / "cases"
    assert main(["prove", "trap.HLT", "-j", "1", "--spec", str(directory), "--cases", str(cases)]) == 1
    output = capsys.readouterr().out
    assert "spec/instructions/idle.isa:" in output
    assert f"nonroot replay {cases}" in output
    (case,) = cases.iterdir()
    assert main(["replay", str(case), "--spec", str(directory)]) == 0
    assert "CONFIRMED" in capsys.readouterr().out
    assert main(["replay", str(case)]) == 1
    assert "not confirmed" in capsys.readouterr().out


def test_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "r.json"
    assert main(["prove", "trap.CLTS", "trap.HLT", "-j", "1", "--json", str(record)]) == 0
    again = ["prove", "trap.CLTS", "trap.HLT", "-j", "2", "--shuffle", "3", "--compare", str(record)]
    assert main(again) == 0
    assert "0 differences" in capsys.readouterr().out
    document = json.loads(record.read_text())
    changed, *others = (one for one in document["results"] if one["id"].startswith("trap.CLTS"))
    changed["witness"] = "sleeps"
    document["results"] = [changed, *others]
    record.write_text(json.dumps(document))
    assert main(again) == 5
    told = capsys.readouterr().err
    assert f"{changed['id']}: witness was sleeps, is completes" in told
    assert "trap.HLT.C: not among the earlier results" in told


@pytest.mark.parametrize(
    "arguments", [["trap.NOTHING.*"], ["-j", "0"], ["--timeout", "0"], ["--spec", "/nowhere"]]
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_every_goal_has_an_id_of_its_own() -> None:
    program = grammar.load()
    ids = [i for family in families().values() for outline in family.outlines(program) for i in outline.ids]
    assert len(ids) == len(set(ids))
