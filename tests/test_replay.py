"""`nonroot replay` on a sample of recorded VMX behaviour, and on files that are no case files.

The sample (data/vmx-sample.jsonl.gz) was recorded from an emulator that nobody of this project wrote; it has a few
cases of every kind, none where that emulator and the manual differ.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import refmodel
from checks.cli import main
from refmodel.replay import Replayer, Unsupported
from refmodel.vectors import CaseError, read_cases

SAMPLE = Path(__file__).parent / "data" / "vmx-sample.jsonl.gz"
LINES = gzip.decompress(SAMPLE.read_bytes()).decode().splitlines()
RECORDED = {case["id"]: case for case in map(json.loads, LINES[1:])}

# Exits that are not caused by an instruction, where its length is undefined.
NO_LENGTH = {0, 1, 2, 7, 8, 33, 37, 48, 49, 52}

# Fields of instruction information; in bits 31 to 28, by exit reason, a second register or which instruction it is.
SCALE, REG_1, ADDRESS_SIZE, IS_REGISTER, SEGMENT = 3, 0xF << 3, 7 << 7, 1 << 10, 7 << 15
INDEX, NO_INDEX, BASE, NO_BASE = 0xF << 18, 1 << 22, 0xF << 23, 1 << 27
SECOND = dict.fromkeys((23, 25, 50, 53, 58), 0xF << 28) | {46: 3 << 28, 47: 3 << 28}
IO = 30


@pytest.fixture(scope="module")
def outcomes() -> dict[int, dict[str, Any]]:
    return dict(replayed(Replayer(refmodel.load())))


def replayed(replayer: Replayer) -> Iterator[tuple[int, dict[str, Any]]]:
    for base, case in read_cases(SAMPLE):
        try:
            yield case.number, replayer.run(base, case)
        except Unsupported:
            continue


def pairs(outcomes: dict[int, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for number, got in outcomes.items():
        case = RECORDED[number]
        yield f"{number} {case['n']} [{case['ctx']}] cpl{case['cpl']}", case["o"], got


def test_enough_is_supported(outcomes: dict[int, dict[str, Any]]) -> None:
    assert len(outcomes) > 0.5 * len(RECORDED)


def test_what_happens(outcomes: dict[int, dict[str, Any]]) -> None:
    for name, want, got in pairs(outcomes):
        for key in ("t", "basic", "vec"):
            assert got.get(key) == want.get(key), name


def test_events_push_the_recorded_frame(outcomes: dict[int, dict[str, Any]]) -> None:
    for name, want, got in pairs(outcomes):
        if want["t"] == "event":
            for key in ("frame", "err", "cr2"):
                assert got.get(key, 0) == want.get(key, 0), name


def test_exit_information(outcomes: dict[int, dict[str, Any]]) -> None:
    for name, want, got in pairs(outcomes):
        if want["t"] != "exit":
            continue
        keys = ["rip", "intr", "intr_err", "idtv", "idtv_err"]
        keys += ["ilen"] if want["basic"] not in NO_LENGTH else []
        keys += ["gpa"] if want["basic"] in (48, 49) else []
        for key in keys:
            assert got.get(key, 0) == want.get(key, 0), (name, key)


def defined_information(reason: int, word: int) -> int:
    """The bits of instruction information that are defined, but for the second operand.  SDM 3C tables 28-8 to 28-14"""
    if reason == IO:
        return ADDRESS_SIZE | SEGMENT
    if word & IS_REGISTER:
        return REG_1 | IS_REGISTER
    has_index = 0 if word & NO_INDEX else SCALE | INDEX
    has_base = 0 if word & NO_BASE else BASE
    return ADDRESS_SIZE | IS_REGISTER | SEGMENT | NO_INDEX | NO_BASE | has_index | has_base


def test_instruction_information(outcomes: dict[int, dict[str, Any]]) -> None:
    compared = set()
    for name, want, got in pairs(outcomes):
        if want["t"] == "exit" and "iinfo" in want:
            reason, word = want["basic"], want["iinfo"]
            bits = defined_information(reason, word) | SECOND.get(reason, 0)
            assert got["iinfo"] & bits == word & bits, name
            compared.add(reason)
    assert compared == {19, 21, 23, 25, IO, 46, 47, 50, 53, 58}


def test_registers_and_memory(outcomes: dict[int, dict[str, Any]]) -> None:
    for name, want, got in pairs(outcomes):
        if want["t"] != "halted":
            assert got.get("r", {}) == want.get("r", {}), name
            assert sorted(got.get("m", [])) == sorted(want.get("m", [])), name


def test_cases_do_not_depend_on_each_other() -> None:
    replayer = Replayer(refmodel.load())
    chosen = [pair for n, pair in enumerate(read_cases(SAMPLE)) if n % 9 == 0]
    first = [outcome(replayer, *pair) for pair in chosen]
    assert [outcome(replayer, *pair) for pair in reversed(chosen)] == first[::-1]


def outcome(replayer: Replayer, base: Any, case: Any) -> Any:
    try:
        return replayer.run(base, case)
    except Unsupported as reason:
        return str(reason)


def test_the_command_writes_a_line_for_every_case(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["replay", str(SAMPLE), "-o", str(output)]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["id"] for line in lines] == list(RECORDED)
    assert all(("o" in line) != ("unsupported" in line) for line in lines)


MALFORMED = {
    "empty": ("", ":1:"),
    "not JSON": ("{", ":1:"),
    "no machine": ('{"meta": 1}\n', ":1:"),
    "a list": ("[]\n", ":1:"),
    "a number too large": (LINES[0] + "\n" + LINES[1].replace('"cpl":0', '"cpl":-1'), ":2:"),
    "a case without code": (LINES[0] + '\n{"id": 1, "cpl": 0, "ctl": [0, 0, 0, 0, 0, 0]}\n', ":2:"),
    "an unknown register": (LINES[0] + "\n" + LINES[1][:-1] + ', "gpr": {"bax": 1}}', ":2:"),
    "binary": ("\0\1\2", ":1:"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_files_are_told_with_their_line(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, place = MALFORMED[what]
    path = tmp_path / "cases.jsonl"
    path.write_text(text)
    assert main(["replay", str(path), "-o", str(tmp_path / "out.jsonl")]) == 2
    assert f"{path}{place}" in capsys.readouterr().err


def test_a_truncated_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl.gz"
    path.write_bytes(SAMPLE.read_bytes()[:5000])
    with pytest.raises(CaseError):
        list(read_cases(path))


def test_an_interrupt_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    run, left = Replayer.run, iter(range(5))

    def interrupted(self: Replayer, base: Any, case: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run(self, base, case)

    monkeypatch.setattr(Replayer, "run", interrupted)
    assert main(["replay", str(SAMPLE), "-o", str(output)]) == 130
    assert len(output.read_text().splitlines()) == 5
