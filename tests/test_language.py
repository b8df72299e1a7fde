"""The language: the text of each error is itself tested, beside the file that provokes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import grammar
from checks.cli import main
from grammar import ir
from grammar.cachedir import KEPT, write_atomically
from grammar.check import SpecificationChecker
from grammar.files import check_directory, check_files
from grammar.format import format_text
from grammar.load import content_key
from grammar.parse import parse
from refmodel.overlaps import overlaps

CASES = Path(__file__).parent / "language"
SPEC = grammar.default_directory()


def program(text: str) -> ir.Program:
    parsed = parse(text, "test.isa")
    checker = SpecificationChecker(parsed.items, parsed.suspects)
    result = checker.run()
    assert [str(e) for e in (*parsed.errors, *checker.errors)] == []
    return result


@pytest.mark.parametrize("name", sorted(p.stem for p in CASES.glob("*.isa")))
def test_errors_are_reported_as_recorded(name: str, tmp_path: Path) -> None:
    """All errors of a file in one run, with place, carets, notes and hints (reviewed text in NAME.expected)."""
    text = (CASES / f"{name}.isa").read_text()
    (tmp_path / "main.isa").write_text("")
    file = tmp_path / f"{name}.isa"
    file.write_text(text)
    _, diagnostics, sources = check_files([file], tmp_path)
    rendered = "\n".join(grammar.render(d, sources) for d in diagnostics).replace(str(tmp_path) + "/", "")
    assert rendered == (CASES / f"{name}.expected").read_text()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"\x7fELF\x02\x01\x01\xff\xfe", "not-text"),
        (b"register A\x00 : bits(8)\n", "character"),
        (b"\tregister A : bits(8)\n", "character"),
        (b"x" * 10_000_000, "too-large"),
        (b"function f() -> bool\n  return " + b"(" * 100_000, "nesting"),
        (b"function f(a: bits(8)) -> bits(8)\n  return " + b"a + " * 5_000 + b"a\n", "nesting"),
        (b"const A : bits(8) = " + b"~" * 20_000 + b"1\n", "nesting"),
        (b"function f(a: bits(8)) -> bits(8", "syntax"),
    ],
)
def test_hostile_input_is_an_error(tmp_path: Path, content: bytes, code: str) -> None:
    file = tmp_path / "hostile.isa"
    (tmp_path / "main.isa").write_text("")
    file.write_bytes(content)
    _, diagnostics, _ = check_files([file], tmp_path)
    assert [d.code for d in diagnostics] == [code]


def test_the_specification_has_no_errors() -> None:
    program, diagnostics, sources = check_directory(SPEC)
    assert "\n".join(grammar.render(d, sources) for d in (*diagnostics, *overlaps(program))) == ""


def test_rows_that_claim_the_same_bytes_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.isa"
    file.write_text("instruction SECOND\n  encoding  0F 06\n  do        CR2 := 0\n")
    assert main(["check", str(file)]) == 2
    error, *rest = capsys.readouterr().err.splitlines()
    assert (
        error
        == f"{file}:2:13: error[overlap]: SECOND and CLTS both claim 0f 06, with the same prefixes and ModR/M"
    )
    assert any("note: CLTS" in line for line in rest)


@pytest.mark.parametrize(
    ("main_text", "content", "code"),
    [
        ('include "a.isa"\ninclude "b.isa"\n', b"const B : bits(8) = A\n", "include"),
        ('include "b.isa"\n', b"\xff\xfe", "not-text"),
        ('include "b.isa"\n', b"\n", "empty"),
        ('include "b.isa"\n', b'include "a.isa"\n', "include"),
        ("const B : bits(8) = 1\n", b"const A : bits(8) = 1\n", "include"),
    ],
)
def test_files_that_cannot_be_used_are_the_only_errors(
    tmp_path: Path, main_text: str, content: bytes, code: str
) -> None:
    """What they would declare is missing elsewhere, which is not said too."""
    (tmp_path / "main.isa").write_text(
        f"{main_text}const C : bits(8) = A\n" if code != "include" else main_text
    )
    (tmp_path / "b.isa").write_bytes(content)
    _, diagnostics, _ = check_directory(tmp_path)
    assert [d.code for d in diagnostics] == [code]


def test_errors_name_files_as_they_can_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of spec/ is called spec too: its errors must not look like those of the original."""
    copy = tmp_path / "spec"
    (copy / "cpu").mkdir(parents=True)
    (copy / "main.isa").write_text('include "cpu/a.isa"\n')
    (copy / "cpu" / "a.isa").write_text("const A : bits(8) = B\n")
    for command in ("check", "list"):
        assert main([command, "--spec", str(copy)]) == 2
        error, quoted, *_ = capsys.readouterr().err.splitlines()
        assert error == f"{copy}/cpu/a.isa:1:21: error[name]: unknown name 'B'"
        assert quoted.endswith("const A : bits(8) = B")


def test_a_file_that_moves_changes_what_the_cache_knows(tmp_path: Path) -> None:
    """Files of one name in two folders change places: their texts are the same, and the program is another."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.isa").write_text(f"const {folder.upper()} : bits(8) = 1\n")
    before = content_key(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert content_key(tmp_path) != before


@pytest.mark.parametrize("path", sorted(SPEC.rglob("*.isa")), ids=lambda p: str(p.relative_to(SPEC)))
def test_the_specification_is_laid_out(path: Path) -> None:
    text = path.read_text()
    assert format_text(text) == text


def test_formatting_keeps_comments_and_is_idempotent() -> None:
    text = "/// Doc.\nenum  E : bits(2)\n    LONG_NAME = 0 // zero\n    B=1    /// one\n\n\n\n// end\n"
    expected = "/// Doc.\nenum  E : bits(2)\n  LONG_NAME = 0  // zero\n  B         = 1  /// one\n\n// end\n"
    assert format_text(text) == expected
    assert format_text(expected) == expected


def test_a_generic_function_has_one_instance_for_each_width() -> None:
    p = program(
        "function low(x: bits(N)) -> bits(8)\n  return truncate(x, 8)\n\n"
        "function f(a: bits(16), b: bits(32)) -> bits(8)\n  return low(a) + low(b) + low(a)\n"
    )
    assert sorted(f.name for f in p.functions.values() if f.source == "low") == ["low_16", "low_32"]
    assert dict(p.functions["low_32"].widths) == {"N": 32}


def test_loops_are_unrolled_and_constants_folded() -> None:
    p = program(
        "register A : bits(8)\n\nfunction f()\n  for i in 2 downto 0\n    if i == 1\n      A[7..i] := 0\n"
    )
    (assignment,) = p.functions["f"].body
    assert isinstance(assignment, ir.WriteState)
    assert isinstance(assignment.value, ir.UpdateBits)
    assert assignment.value.changes[0][:2] == (7, 1)


FAMILY = """
operands
  Eb  rm  8
  Ev  rm  v
  Gb  reg 8
  Gv  reg v

enum Operation : bits(1)
  ADD = 0
  CMP = 7

instruction {op}(destination: bits(N), source: bits(N)) for op in Operation
  encoding  00+8*op /r  Eb, Gb  lock
            01+8*op /r  Ev, Gv  lock
  do        let result = destination + source
            if op == ADD
              destination := result
"""


def test_a_family_is_one_instruction_for_each_member() -> None:
    p = program(FAMILY.replace("bits(1)", "bits(3)"))
    assert list(p.instructions) == ["ADD", "CMP"]
    assert [row.opcode[0].value for row in p.instructions["CMP"].rows] == [0x38, 0x39]
    assert [b.name for b in p.instructions["ADD"].bodies] == ["ADD_8", "ADD_16", "ADD_32", "ADD_64"]
    uses = {i: p.instructions[i].bodies[0].operands[0] for i in p.instructions}
    assert (uses["ADD"].reads, uses["ADD"].writes) == (True, True)
    assert (uses["CMP"].reads, uses["CMP"].writes) == (True, False)


def test_ownership_decides_view_and_host_part() -> None:
    p = program(
        "vmcs EPT = 0x2000 : bits(1)\nregister GUEST : bits(8)\nregister ROOT : bits(8)\n  owner host\n"
        "register CR3 : bits(8)\n  owner guest when EPT == 1\n"
    )
    assert isinstance(p.state["GUEST"].view, ir.Read)
    assert p.state["GUEST"].host is None
    assert p.state["ROOT"].view is None
    assert isinstance(p.state["ROOT"].host, ir.Read)
    view, host = p.state["CR3"].view, p.state["CR3"].host
    assert isinstance(view, ir.Conditional)
    assert isinstance(view.then, ir.Read)
    assert isinstance(host, ir.Conditional)
    assert isinstance(host.otherwise, ir.Read)


def test_an_exit_is_guarded_by_the_mode_and_its_condition() -> None:
    p = program(
        "register MODE : bool\nenum Reason : bits(16)\n  HLT = 12\n  IO = 30\n"
        "abort Exit when MODE\n  reason: Reason\n  qualification: bits(64)\n"
        "function f(c: bool)\n  exit IO { qualification: 7 } when c\n"
    )
    (statement,) = p.functions["f"].body
    assert isinstance(statement, ir.If)
    assert statement.clause == "exit"
    (raised,) = statement.then
    assert isinstance(raised, ir.Raise)
    assert isinstance(raised.value, ir.MakeStruct)
    assert [v.value for v in raised.value.values if isinstance(v, ir.Literal)] == [30, 7]
    assert p.functions["f"].raises


def test_loading_uses_the_cache_only_for_the_same_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONROOT_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "spec"
    spec.mkdir()
    (spec / "main.isa").write_text('include "a.isa"\n')
    (spec / "a.isa").write_text("const A : bits(8) = 1\n")
    assert grammar.load(spec).constants["A"].value == 1
    assert grammar.load(spec).constants["A"].value == 1
    (spec / "a.isa").write_text("const A : bits(8) = 2\n")
    assert grammar.load(spec).constants["A"].value == 2
    for cached in (tmp_path / "cache").glob("program-*"):
        cached.write_bytes(b"corrupt")
    assert grammar.load(spec).constants["A"].value == 2


def test_the_cache_keeps_the_newest_files_of_a_kind(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        path = tmp_path / f"program-{number:02}.pickle"
        write_atomically(path, b"x")
        os.utime(path, (number, number))
    write_atomically(tmp_path / "verdicts-1.json", b"{}")
    write_atomically(tmp_path / "program-new.pickle", b"x")
    left = {p.name for p in tmp_path.iterdir()}
    assert len(left) == KEPT + 1
    assert {"program-new.pickle", "verdicts-1.json"} <= left
    assert "program-00.pickle" not in left


def test_properties_of_the_encoding() -> None:
    checked = program(
        """
operands
  Xb  memory_at     6 8
  Yq  es_memory_at  7 128

register NEXT_RIP : bits(64)

function read_memory_operand(N: width, segment: bits(3), address: bits(64)) -> bits(N)
  return 0

instruction COPY(destination: bits(M), source: bits(N))
  encoding  0F 3A F6  Yq Xb  rep
  do        if repeat != 0
              NEXT_RIP := NEXT_RIP + address_size + instruction_length

/// Nobody needs it.
missing SOMETHING
""".lstrip()
    )
    row = checked.instructions["COPY"].rows[0]
    assert [checked.operands[o].register for o in row.operands] == [7, 6]
    assert checked.instructions["COPY"].bodies[0].widths == (128, 8)
    assert checked.missing["SOMETHING"].doc == "Nobody needs it."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("10 - 3 - 2", 5),
        ("1 << 2 + 1", 8),
        ("6 & 3 | 8", 10),
        ("6 ^ 3 & 1", 7),
        ("-1 >> 60", 15),
        ("~0 - 1 & 0xFF", 0xFE),
        ("(1 as bits(32)) ++ (2 as bits(16)) ++ (3 as bits(16))", 0x1_0002_0003),
        ("zero_extend(not 1 == 2 and 3 in 2..4, 64)", 1),
        ("zero_extend(1 == 1 or 1 == 1 and 1 == 2, 64)", 1),
        ("zero_extend(-1 <s 0, 64)", 1),
        ("-1 >>s 4 & 0xF0", 0xF0),
    ],
)
def test_operators_bind_as_documented(text: str, value: int) -> None:
    typed = (
        text.replace("1 == 2", "A == 2")
        .replace("1 == 1", "A == 1")
        .replace("3 in", "A + 2 in")
        .replace("-1 <s", "-A <s")
    )
    source = f"const A : bits(64) = 1\nconst B : bits(64) = {typed}\n"
    assert program(source).constants["B"].value == value


@pytest.mark.parametrize("text", ["1 == A == 2", "1 + not true"])
def test_operators_that_do_not_combine(text: str) -> None:
    parsed = parse(f"const A : bits(64) = {text}\n", "test.isa")
    assert [e.code for e in parsed.errors] == ["syntax"]
