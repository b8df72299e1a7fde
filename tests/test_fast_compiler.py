"""The compiler of the fast model: native code, plain Python and Python's own integers agree."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import compiled_texts as texts
import pytest

from fastmodel.compiler import build
from fastmodel.compiler.llvm import module_text
from fastmodel.compiler.plain import PlainProgram
from fastmodel.compiler.primitives import below, shift_right, signed, unsigned, wrap
from fastmodel.compiler.program import Instance, SubsetError, instance
from fastmodel.sources import digest_of

Function = Callable[[int, int], int]
EDGES = (0, 1, 2, 7, 63, 64, 65, 0x7F, 0x80, 0xFFFF, 1 << 31, 1 << 32, (1 << 63) - 1, -(1 << 63), -1, -2)


def operators(a: int, b: int) -> int:
    return (a + b) * 3 - (a ^ ~b) + (a << (b & 63)) + (b >> 3) + a + ((a & b) | 0x48D)


def words(a: int, b: int) -> int:
    def low(n: int) -> int:
        return (a & (1 << n) - 1) - ((a >> n - 1 & 1) << n)

    total = low(8) + b % (1 << 16) + low(33) + (a % (1 << 64) >> (b & 63))
    return total + (a % (1 << 64) < b % (1 << 64)) + 2 * (a < b) + 4 * (a != b)


def shifts(a: int, b: int) -> int:
    n = b & 63
    return wrap(a << n) ^ a >> n ^ wrap(a % (1 << 64) >> n)


def specialised(width: int) -> Function:
    def expected(a: int, b: int) -> int:
        if width == 8:
            return (a + b + 128) % 256 - 128 + 1
        return (a - b) % (1 << width) * (1 << (64 - width)) + width // 8

    return expected


def calls(a: int, b: int) -> int:
    return a >> 1 if b % 2 and not a % 2 else (b >> 1) - 1


# A text, what it is specialised by, and the same in ordinary Python (None: the text itself means the same there).
CASES: list[tuple[Instance, Function]] = [
    (instance(texts.operators), operators),
    (instance(texts.words), words),
    (instance(texts.shifts), shifts),
    (instance(texts.choices), texts.choices),
    (instance(texts.loops), texts.loops),
    (instance(texts.calls), calls),
    *((instance(texts.specialised, {"WIDTH": width}), specialised(width)) for width in (8, 16, 32, 64)),
]


def pairs() -> list[tuple[int, int]]:
    source = random.Random(4)
    numbers = [wrap(source.getrandbits(source.choice((8, 33, 64)))) for _ in range(300)]
    return [(a, b) for a in EDGES for b in EDGES] + list(itertools.pairwise(numbers))


def native(entries: dict[str, Instance], *, threaded: bool = True) -> build.NativeCode:
    build.initialize()
    target = build.Target.host(threaded=threaded)
    return build.NativeCode(target, build.compile_ir(target, module_text({}, entries, target.convention)))


@pytest.fixture(scope="module", params=[True, False], ids=["threaded", "portable"])
def code(request: pytest.FixtureRequest) -> build.NativeCode:
    return native({str(n): inside for n, (inside, _) in enumerate(CASES)}, threaded=request.param)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_native_code_computes_what_python_does(code: build.NativeCode, number: int) -> None:
    expected = CASES[number][1]
    compiled = code.function(str(number), 2)
    for a, b in pairs():
        assert compiled(a, b) == wrap(expected(a, b)), (a, b)


@pytest.mark.parametrize(
    ("inside", "expected"), CASES, ids=lambda value: getattr(value, "function", value).__name__
)
def test_plain_text_computes_what_python_does(inside: Instance, expected: Function) -> None:
    plain = PlainProgram({}).function(inside)
    for a, b in pairs():
        assert plain(a, b) == wrap(expected(a, b)), (a, b)


def test_memory_is_little_endian_and_narrow_writes_leave_the_rest() -> None:
    compiled = native({"memory": instance(texts.memory)}).function("memory", 2)
    buffer = ctypes.create_string_buffer(16)
    value = 0x1122334455667788
    after = value.to_bytes(8, "little")
    after = after[:2] + b"\x01\x80" + after[4:7] + after[:1]
    expected = int.from_bytes(after, "little") ^ int.from_bytes(after[1:5], "little") ^ after[3]
    for function in (compiled, texts.memory):
        assert function(ctypes.addressof(buffer), value) % (1 << 64) == expected % (1 << 64)
        assert buffer.raw[:8] == after


def test_words_of_the_vocabulary() -> None:
    assert [signed(8, 0x17F), signed(8, 0x80), signed(64, -5)] == [0x7F, -128, -5]
    assert [unsigned(16, -1), unsigned(64, -1)] == [0xFFFF, -1]
    assert [shift_right(-1, 60), shift_right(-1, 64), shift_right(5, 1)] == [15, -1, 2]
    assert [below(1, -1), below(-1, 1), below(3, 3)] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (texts.integer_as_condition, "compare the integer with 0"),
        (texts.condition_as_integer, "an integer is expected here"),
        (texts.text, "an integer is expected here"),
        (texts.for_loop, "statement For is outside the restricted Python"),
        (texts.division, "an integer is expected here"),
        (texts.method, "only plain calls of named functions are possible"),
        (texts.unknown_width, "the width must be a constant from 1 to 64"),
        (texts.unbound_parameter, "WIDTH is no number here"),
        (texts.too_few_arguments, "half takes 1 arguments"),
        (texts.default_argument, "default_argument may have plain parameters only"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_text_outside_the_subset_is_an_error_with_its_place(text: Function, message: str) -> None:
    with pytest.raises(SubsetError, match=message) as caught:
        native({"entry": instance(text)})
    assert "compiled_texts.py:" in str(caught.value)


def test_a_damaged_object_in_the_cache_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONROOT_CACHE", str(tmp_path))
    target = build.Target.host()
    builds: list[int] = []

    def make() -> tuple[str, str]:
        builds.append(1)
        return module_text({}, {"entry": instance(texts.operators)}, target.convention), "a note"

    def call() -> int:
        code = build.load(target, "texts", digest_of([Path(texts.__file__)]), make)
        assert code.note == "a note"
        return code.function("entry", 2)(3, 4)

    assert call() == call() == wrap(operators(3, 4))
    assert len(builds) == 1
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100] + b"\0" * 100)
    assert call() == wrap(operators(3, 4))
    assert len(builds) == 2
