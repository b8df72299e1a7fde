"""The trap matrix: against the manual's lists, and the committed document against what is computed."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import z3

import grammar
from checks.cli import main
from checks.matrix.asker import RefutedError
from checks.matrix.decide import Exits
from checks.matrix.needs import minimal_core
from checks.matrix.rows import STAYS, Row, blocks, lemma_needs, rows_of
from checks.matrix.text import short, words
from checks.sensitivity.questions import without_exits
from checks.trap.theorems import Theorem

PROGRAM = grammar.load()
SDM = tomllib.loads((Path(__file__).parent / "data" / "sdm_exits.toml").read_text(encoding="utf-8"))
DOCUMENT = Path(__file__).parent.parent / "docs" / "trap-matrix.md"

SAMPLE = ("HLT", "CLTS", "SMSW", "CPUID", "RDTSC", "SGDT", "MOV_TO_CR8", "PAUSE", "VMFUNC", "SWAPGS")


def lines() -> list[list[str]]:
    """The cells of the document's first table."""
    table = DOCUMENT.read_text(encoding="utf-8").split("\nThe other ", 1)[0]
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:2] == "| "
    ][1:]


# --- the committed document, for all instructions ---


def test_the_document_has_a_row_for_each_instruction_that_is_not_innocuous_by_its_text() -> None:
    named = [name for block in blocks(PROGRAM).values() for name in block]
    assert sorted(row[0] for row in lines()) == sorted(named)


def test_what_exits_unconditionally_is_what_the_manual_says() -> None:
    always = {row[0] for row in lines() if row[1] == "always"}
    assert always == set(SDM["unconditional"]) - set(SDM["differences"])


def test_what_exits_conditionally_is_what_the_manual_says() -> None:
    sometimes = {row[0] for row in lines() if row[1] == "sometimes"}
    assert sometimes == set(SDM["conditional"])


@pytest.mark.parametrize("name", SDM["conditional"])
def test_the_controls_that_the_manual_names_decide(name: str) -> None:
    decided = next(row[2] for row in lines() if row[0] == name)
    for control in SDM["conditional"][name]:
        assert control in decided


# --- computing it ---


@pytest.fixture(scope="module")
def computed() -> dict[str, Row]:
    return {row.instruction: row for name in SAMPLE for row in rows_of(PROGRAM, [name])}


@pytest.mark.parametrize("name", SAMPLE)
def test_the_document_is_up_to_date(name: str, computed: dict[str, Row]) -> None:
    """A sample; `nonroot matrix --check docs/trap-matrix.md` compares all of it."""
    assert list(words(computed[name])) == next(row for row in lines() if row[0] == name)


def test_needed_policies_are_those_whose_loss_refutes(computed: dict[str, Row]) -> None:
    """tests/test_prove.py drops these policies, and the theorems are refuted."""
    assert dict(computed["HLT"].needs)[Theorem.INTEGRITY] == ("hlt_exits",)
    assert dict(computed["VMFUNC"].needs)[Theorem.INTEGRITY] == ("ept_is_not_switched",)
    assert "cr8_exits" in dict(computed["MOV_TO_CR8"].needs)[Theorem.INTEGRITY]


def test_translation_needs_ept_and_true_shadows() -> None:
    needs = dict(lemma_needs(PROGRAM))
    assert set(needs["trap.translation.E"]) == {
        "memory_is_translated",
        "cr0_shadow_is_true",
        "cr4_shadow_is_true",
    }


def test_a_lost_exit_shows_in_the_matrix() -> None:
    instruction = PROGRAM.instructions["SGDT"]
    bodies = tuple(replace(body, body=without_exits(body.body)) for body in instruction.bodies)
    lost = replace(instruction, bodies=bodies)
    [row] = rows_of(replace(PROGRAM, instructions={"SGDT": lost}), ["SGDT"])
    assert (row.exits, row.controls, row.under_policy) == (Exits.NEVER, (), (STAYS,))


def test_a_theorem_that_no_policy_makes_true_is_named() -> None:
    instruction = PROGRAM.instructions["HLT"]
    bodies = tuple(replace(body, body=without_exits(body.body)) for body in instruction.bodies)
    lost = replace(instruction, bodies=bodies)
    with pytest.raises(RefutedError, match=r"^trap\.HLT\.I$"):
        rows_of(replace(PROGRAM, instructions={"HLT": lost}), ["HLT"])


def test_minimal_cores() -> None:
    context = z3.Context()
    x = z3.BitVec("x", 8, context)
    policies = [("small", x < 4), ("even", x & 1 == 0), ("positive", x > 0), ("other", x != 7)]
    assert minimal_core(x == 2, [], policies) == ("small", "even", "positive")
    assert minimal_core(x == 3, [], policies) is None
    assert minimal_core(z3.BoolVal(True, context), [], policies) == ()


def test_names_are_short() -> None:
    names = ["PRIMARY_CONTROLS.HLT_EXITING", "CR0_READ_SHADOW.TS", "CR0_READ_SHADOW.MP", "TSC_OFFSET"]
    assert short(names) == ["HLT_EXITING", "CR0_READ_SHADOW.TS/MP", "TSC_OFFSET"]


# --- the command ---


def test_the_command_shows_witnesses_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "matrix.json"
    assert main(["matrix", "HLT", "-j", "1", "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "HLT_EXITING" in said
    assert "CONFIRMED" in said
    document = json.loads(path.read_text())
    assert document["schema_version"] == 1
    [row] = document["instructions"]
    assert (row["exits"], row["controls"]) == ("sometimes", ["PRIMARY_CONTROLS.HLT_EXITING"])
    assert row["needs"] == {"C": [], "I": ["hlt_exits"], "E": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NOSUCH"], "there is no instruction 'NOSUCH'"),
        (["HLT", "--check", "x.md"], "leave the names out"),
        (["--check", "nosuch.md"], "there is no file nosuch.md"),
        (["-j", "0"], "-j must be above 0"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", *arguments]) == 2
    assert message in capsys.readouterr().err
