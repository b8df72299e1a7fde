"""Verdicts that are remembered: found again while nothing they depend on changed, and never believed otherwise."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import z3

import grammar
from checks.cache import ProofCache
from checks.digest import Digests
from checks.extract import extract
from checks.families import families, modules_of
from checks.prover.memo import Memo, remember
from checks.prover.selection import Task, select
from checks.prover.sources import files_of
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from grammar import ir

PROGRAM = grammar.load()
FAMILIES = families()
INVARIANT = next(iter(PROGRAM.invariants))


def task_of(group: str) -> Task:
    return next(task for task in select(PROGRAM, FAMILIES, []) if task.group == group)


def prove(program: ir.Program, task: Task, cache: ProofCache) -> list[Result]:
    group = FAMILIES[task.family].build(extract(program, task.roots), task.group, z3.Context())
    return list(GroupRunner(group, Limits(), cache).run())


def recalled(program: ir.Program, path: Path, task: Task) -> tuple[list[Result], list[Task]]:
    return Memo(program, ProofCache(path), ("z3",)).recall([task])


def remembered(path: Path, task: Task) -> list[Result]:
    """Proves a group and remembers it."""
    cache = ProofCache(path)
    _, [keyed] = Memo(PROGRAM, cache, ("z3",)).recall([task])
    results = prove(PROGRAM, task, cache)
    remember(cache, keyed.key, results)
    return results


@pytest.mark.parametrize("group", ["trap.CLTS", "trap.HLT", "isolation.scrub", "fast.CMP"])
def test_what_was_proved_is_known_again(tmp_path: Path, group: str) -> None:
    path, task = tmp_path / "proofs.sqlite", task_of(group)
    first = remembered(path, task)
    known, left = recalled(PROGRAM, path, task)
    assert left == []
    assert {(r.id, r.status, r.witness, r.syntactic) for r in known} == {
        (r.id, Status.PROVED, r.witness, r.syntactic) for r in first
    }


def without_exit(program: ir.Program, name: str) -> ir.Program:
    instruction = program.instructions[name]
    bodies = tuple(
        replace(b, body=tuple(s for s in b.body if not (isinstance(s, ir.If) and s.clause == "exit")))
        for b in instruction.bodies
    )
    return replace(program, instructions={**program.instructions, name: replace(instruction, bodies=bodies)})


def with_condition(program: ir.Program, table: str, name: str) -> ir.Program:
    items = getattr(program, table)
    changed = {**items, name: replace(items[name], condition=ir.Literal(ir.BOOL, 1))}
    return replace(program, **{table: changed})


def with_body(program: ir.Program, name: str) -> ir.Program:
    function = program.functions[name]
    first, *rest = function.body
    changed = replace(function, body=(first, first, *rest))
    return replace(program, functions={**program.functions, name: changed})


def with_view(program: ir.Program, name: str) -> ir.Program:
    changed = replace(program.state[name], view=None)
    return replace(program, state={**program.state, name: changed})


CHANGES: dict[str, tuple[Callable[[], ir.Program], set[str]]] = {
    "CLTS": (lambda: without_exit(PROGRAM, "CLTS"), {"trap.CLTS"}),
    "a policy": (lambda: with_condition(PROGRAM, "policies", "hlt_exits"), {"trap.CLTS", "trap.HLT"}),
    "an invariant": (lambda: with_condition(PROGRAM, "invariants", INVARIANT), {"isolation.scrub"}),
    "a function of CLTS": (lambda: with_body(PROGRAM, "written_cr0"), {"trap.CLTS"}),
    "a view": (lambda: with_view(PROGRAM, "CR2"), {"trap.CLTS", "trap.HLT", "isolation.scrub"}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_change_reaches_the_groups_that_it_concerns_and_no_others(change: str) -> None:
    make, concerned = CHANGES[change]
    digests, changed = Digests(), make()
    groups = {name: task_of(name) for name in ("trap.CLTS", "trap.HLT", "isolation.scrub")}
    found = {
        name
        for name, task in groups.items()
        if digests.of(extract(PROGRAM, task.roots)) != digests.of(extract(changed, task.roots))
    }
    assert found == concerned


def test_documentation_and_lines_do_not_count() -> None:
    moved = {
        name: replace(f, doc="another", span=replace(f.span, line=f.span.line + 7))
        for name, f in PROGRAM.functions.items()
    }
    assert Digests().of(PROGRAM) == Digests().of(replace(PROGRAM, functions=moved))


def test_refuted_group_is_built_again(tmp_path: Path) -> None:
    path, task, broken = tmp_path / "proofs.sqlite", task_of("trap.CLTS"), without_exit(PROGRAM, "CLTS")
    for _ in range(2):
        _, [keyed] = recalled(broken, path, task)
        results = prove(broken, keyed, ProofCache(path))
        theorems = [r for r in results if r.family == "trap"]
        assert {r.id: r.counterexample is not None for r in theorems} == {
            "trap.CLTS.C": False,
            "trap.CLTS.I": False,
            "trap.CLTS.E": True,
        }


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET value = 'sat' WHERE value = 'unsat'",
        "UPDATE groups SET value = '[]'",
        "UPDATE groups SET checksum = x'00'",
        "DELETE FROM answers",
    ],
)
def test_damaged_rows_are_proved_anew(tmp_path: Path, damage: str) -> None:
    path, task = tmp_path / "proofs.sqlite", task_of("trap.CLTS")
    remembered(path, task)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(damage).rowcount > 0
    known, left = recalled(PROGRAM, path, task)
    assert (known, [one.group for one in left]) == ([], ["trap.CLTS"])


def test_verdicts_and_work_do_not_depend_on_the_order(tmp_path: Path) -> None:
    groups = ["trap.CLTS", "isolation.invalidate", "trap.PUSHFQ", "fast.CMP"]

    def counted(names: list[str]) -> dict[str, tuple[Status, int, str]]:
        cache = ProofCache(tmp_path / f"{names[0]}.sqlite")
        results = [r for name in names for r in prove(PROGRAM, task_of(name), cache)]
        return {r.id: (r.status, r.rlimit, r.refutable) for r in results}

    assert counted(groups) == counted(groups[::-1])


# --- the code that theorems are made by ---


def names_of(family: str) -> set[str]:
    root = Path(grammar.__file__).parents[1]
    return {str(path.relative_to(root)) for path in files_of(modules_of(FAMILIES[family]))}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_made_by_no_other_files_than_are_digested(family: str) -> None:
    modules = sorted(modules_of(FAMILIES[family]))
    text = f"import sys, {', '.join(modules)}; print(*(getattr(m, '__file__', '') for m in sys.modules.values()))"
    root = str(Path(grammar.__file__).parents[1])
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=root)
    files = (Path(one) for one in ran.stdout.split())
    own = {str(one.relative_to(root)) for one in files if one.is_relative_to(root)}
    own = {one for one in own if not one.startswith(".")}  # the libraries
    assert own - names_of(family) <= {"spec/__init__.py"}


def test_what_has_no_part_in_terms_is_not_digested() -> None:
    assert "checks/sensitivity/questions.py" in names_of("trap")  # made from the same terms
    assert "checks/symbolic/terms.py" in names_of("isolation")
    assert "fastmodel/paging.py" in names_of("fast")
    assert not any(
        name.startswith(("fastmodel", "checks/fuzz", "checks/commands")) for name in names_of("trap")
    )


# --- runs that do not end ---


def answers_in(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:  # the table is not there yet
            return 0


def test_killed_run_keeps_what_it_proved(tmp_path: Path) -> None:
    path = tmp_path / "proofs.sqlite"
    command = [sys.executable, "-m", "checks", "prove", "isolation.claim", "-j", "1"]
    environment = {**os.environ, "NONROOT_CACHE": str(tmp_path)}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while answers_in(path) < 3:
            assert run.poll() is None, "the run ended before it was killed"
            time.sleep(0.05)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    kept = answers_in(path)
    task, cache = task_of("isolation.claim"), ProofCache(path)
    assert cache.warning == ""
    results = prove(PROGRAM, task, cache)
    assert kept >= 3
    assert {r.status for r in results} == {Status.PROVED}
    assert any(r.cached for r in results)
