"""The generated Python against expectations worked out by hand or by Python's own arithmetic."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

import grammar
from grammar.files import check_directory
from refmodel.generate.module import generate
from refmodel.model import Model, build

SPECIFICATION = """\
enum Colour : bits(2)
  RED   = 0
  GREEN = 1

bitfield Flags : bits(16)
  LOW   0
  MODE  6..4
  TOP   15

struct Pair
  first: bits(8)
  second: bool

register X : bits(64) = 7
register F : Flags
register TABLE[bits(4)] : bits(8) = 3
state OWNER[bits(20)] : bits(8) = 9
vmcs FIELD = 0x6802 : bits(64)
ghost SEEN[bits(8)] : bool
memory PHYSICAL : bits(64)

abort Failure
  code: bits(8)

/// Adds.
function add(a: bits(8), b: bits(8)) -> bits(8)
  return a + b

function widened(a: bits(8), b: bits(8)) -> bits(16)
  return zero_extend(a, 16) + zero_extend(b, 16)

function mixed(a: bits(32), b: bits(32), c: bits(32)) -> bits(32)
  return (a - b) * c + ~a

function signed_less(a: bits(8), b: bits(8)) -> bool
  return a <s b

function shifts(a: bits(32), n: bits(8)) -> bits(32)
  return (a << n) ^ (a >> n) ^ (a >>s n)

function wide_shift(a: bits(32), n: bits(64)) -> bits(32)
  return a << n

function quotient(a: bits(8), b: bits(8)) -> bits(8)
  return a / b

function rest(a: bits(8), b: bits(8)) -> bits(8)
  return a % b

function joined(a: bits(8), b: bool, c: bits(7)) -> bits(16)
  return a ++ bit(b) ++ c

function sign_extended(a: bits(8)) -> bits(64)
  return sign_extend(a, 64)

function mode() -> bits(3)
  return F.MODE

function set_mode(mode: bits(3), top: bool)
  F := F with { MODE: mode, TOP: top }

function pair(x: bits(8)) -> Pair
  let p = Pair { first: x }
  return p with { second: x[7] }

function fail_above(limit: bits(8), x: bits(8))
  if x > limit
    raise Failure { code: x }

function caught(x: bits(8)) -> bits(8)
  attempt
    fail_above(10, x)
  on Failure as f
    return f.code + 1
  return 0

cached function look_up(x: bits(16)) -> bits(8) by x[15..4]
  TABLE[0] := TABLE[0] + 1
  return TABLE[0]

function start_over()
  forget look_up

cached function look_up_two(x: bits(16), y: bits(8)) -> bits(8) by x[15..4], y
  TABLE[0] := TABLE[0] + 1
  return TABLE[0]

function start_over_with(x: bits(16))
  forget look_up_two(x[15..4])

function start_over_with_both(x: bits(16), y: bits(8))
  forget look_up_two(x[15..4], y)

function start_over_with_one(x: bits(16))
  forget look_up(x[15..4])

function yield(in: bits(8), m: bits(8)) -> bits(8)
  SEEN[in] := true
  return in + m

function store_and_load(address: bits(64), value: bits(24)) -> bits(32)
  PHYSICAL[address, 24] := value
  return PHYSICAL[address, 32]
"""


def model_of(text: str, directory: Path) -> Model:
    """A model of a specification with the little that a machine needs."""
    frame = """
function #UD()
  raise Failure { code: 6 }
function #GP(error: bits(32))
  raise Failure { code: 13 }
function code_size() -> bits(64)
  return 64
function fetch_translate(address: bits(64)) -> bits(64)
  return address
"""
    (directory / "main.isa").write_text('include "all.isa"\n')
    (directory / "all.isa").write_text(text + frame)
    program, diagnostics, _ = check_directory(directory)
    assert not diagnostics
    return build(program)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_of(SPECIFICATION, tmp_path_factory.mktemp("spec"))


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> width - 1 else value


def test_arithmetic_wraps(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    assert f["add"](m, 200, 100) == 44
    assert f["widened"](m, 200, 100) == 300
    numbers = random.Random(1)
    for _ in range(200):
        a, b, c = (numbers.getrandbits(32) for _ in range(3))
        assert f["mixed"](m, a, b, c) == ((a - b) * c + (0xFFFFFFFF - a)) % (1 << 32)


def test_masks_stand_only_where_a_result_can_grow(model: Model) -> None:
    lines = model.text.splitlines()
    body = lines[lines.index("def widened(m, a: int, b: int) -> int:") + 2]
    assert body.strip() == "return a + b"


def test_signed_comparison(model: Model) -> None:
    m, less = model.machine(0x1000), model.functions["signed_less"]
    for a in range(0, 256, 5):
        for b in range(0, 256, 5):
            assert less(m, a, b) == (signed(a, 8) < signed(b, 8))


def test_shifts_by_any_amount(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    for a in (0, 1, 0x80000000, 0xDEADBEEF):
        for n in (0, 1, 31, 32, 33, 255):
            left = (a << n) % (1 << 32)
            expected = left ^ (a >> n) ^ (signed(a, 32) >> n) % (1 << 32)
            assert f["shifts"](m, a, n) == expected
    assert f["wide_shift"](m, 1, 1 << 60) == 0
    assert f["wide_shift"](m, 3, 31) == 0x80000000


def test_division_by_zero_is_that_of_smt_lib(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    assert (f["quotient"](m, 9, 2), f["quotient"](m, 9, 0)) == (4, 255)
    assert (f["rest"](m, 9, 2), f["rest"](m, 9, 0)) == (1, 9)


def test_concatenation_and_extension(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    assert f["joined"](m, 0xAB, True, 0x05) == 0xAB85
    assert f["sign_extended"](m, 0x80) == 0xFFFF_FFFF_FFFF_FF80
    assert f["sign_extended"](m, 0x7F) == 0x7F


def test_bitfields(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    m.F = 0x0F0F
    f["set_mode"](m, 5, True)
    assert m.F == 0x8F5F
    assert f["mode"](m) == 5
    f["set_mode"](m, 0, False)
    assert m.F == 0x0F0F


def test_structs_and_aborts(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    assert f["pair"](m, 0x81) == (0x81, 1)
    assert f["caught"](m, 10) == 0
    assert f["caught"](m, 11) == 12
    with pytest.raises(model.namespace["FailureAbort"]) as raised:
        f["#GP"](m, 0)
    assert raised.value.value.code == 13


def test_cached_functions_remember_by_their_keys_until_forgotten(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    assert [f["look_up"](m, x) for x in (0x10, 0x1F, 0x20, 0x10)] == [4, 4, 5, 4]
    f["start_over"](m)
    assert f["look_up"](m, 0x10) == 6
    assert f["look_up"](model.machine(0x1000), 0x10) == 4
    f["start_over_with_one"](m, 0x20)
    assert f["look_up"](m, 0x10) == 6
    f["start_over_with_one"](m, 0x1F)
    assert f["look_up"](m, 0x10) == 7


def test_cached_functions_forget_what_begins_with_some_keys(model: Model) -> None:
    f, m = model.functions, model.machine(0x1000)
    places = ((0x10, 1), (0x10, 2), (0x20, 1))

    def new() -> list[bool]:
        """Which results were not remembered."""
        before = [m.TABLE[0]]
        for x, y in places:
            f["look_up_two"](m, x, y)
            before.append(m.TABLE[0])
        return [a != b for a, b in pairwise(before)]

    assert new() == [True, True, True]
    f["start_over_with"](m, 0x1F)
    assert new() == [True, True, False]
    f["start_over_with_both"](m, 0x10, 2)
    assert new() == [False, True, False]


def test_names_that_python_reserves_and_ghosts(model: Model) -> None:
    m = model.machine(0x1000)
    assert model.functions["yield"](m, 3, 4) == 7
    assert not hasattr(m, "SEEN")


def test_state_has_its_reset_values(model: Model) -> None:
    m = model.machine(0x1000)
    assert (m.X, m.TABLE, m.OWNER[77], m.vmcs.FIELD) == (7, [3] * 16, 9, 0)
    assert 77 not in m.OWNER
    m.X, m.vmcs.FIELD, m.OWNER[1] = 1, 2, 3
    m.reset()
    assert (m.X, m.OWNER[1], m.vmcs.FIELD) == (7, 9, 0)


def test_vmptrld_switches_the_current_vmcs(model: Model) -> None:
    m = model.machine(0x1000)
    m.output("vmptrld", 1)
    m.vmcs.FIELD = 11
    m.output("vmptrld", 2)
    assert m.vmcs.FIELD == 0
    m.output("vmptrld", 1)
    assert m.vmcs.FIELD == 11


def test_memory_is_little_endian_and_ends_in_ones(model: Model) -> None:
    m, f = model.machine(0x1000), model.functions
    m.PHYSICAL.write_32(0x100, 0x11223344)
    assert f["store_and_load"](m, 0x100, 0xAABBCC) == 0x11AABBCC
    assert f["store_and_load"](m, 0xFFE, 0xAABBCC) == 0xFFFFBBCC
    assert m.PHYSICAL.read_64(1 << 63) == (1 << 64) - 1


PROGRAM = grammar.load()


def test_the_text_is_the_same_every_time() -> None:
    assert generate(PROGRAM) == generate(PROGRAM)


def test_the_text_is_kept_as_a_file_that_a_debugger_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONROOT_CACHE", str(tmp_path))
    first, second = build(PROGRAM, "key"), build(PROGRAM, "key")
    assert Path(first.path).read_text() == first.text == second.text
    assert second.functions["cycle"].__code__.co_filename == first.path
    assert build(PROGRAM, "another key").path != first.path


def test_a_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONROOT_CACHE", str(tmp_path))
    build(PROGRAM, "key")
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert "cycle" in build(PROGRAM, "key").functions


def test_without_a_writable_cache_everything_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONROOT_CACHE", os.devnull)
    model = build(PROGRAM, "key")
    assert "cycle" in model.functions
    assert not Path(model.path).exists()
