"""Records of the IR behave as frozen dataclasses, and a program in the cache is the program that was put there."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from grammar import ir, load
from grammar.source import Span
from grammar.stored import restored, stored

PLACE = Span("a.isa", 1, 2, 3, 4)
LITERAL = ir.Literal(ir.Bits(8), 1)


def test_records_are_made_by_position_name_and_default() -> None:
    made = ir.If(PLACE, LITERAL, (), otherwise=())
    assert made == ir.If(PLACE, LITERAL, (), (), "if") != replace(made, clause="check")
    assert made.clause == "if"
    assert [field.name for field in fields(ir.If)] == ["span", "condition", "then", "otherwise", "clause"]


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "'width'"),
    ((8, 9), {}, "3 were given"),
    ((8,), {"width": 8}, "multiple values"),
    ((), {"width": 8, "height": 8}, "'height'"),
]


@pytest.mark.parametrize(("values", "named", "message"), WRONG)
def test_records_have_just_their_fields(values: tuple[Any, ...], named: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ir.Bits(*values, **named)


def test_records_are_compared_by_class_and_values() -> None:
    assert ir.Bits(8) == ir.Bits(width=8)
    assert len({ir.Bits(8), ir.Bits(8), ir.Bits(16), ir.BOOL, ir.Bool()}) == 3
    assert ir.OperandRead(ir.Bits(8), "x") != ir.Local(ir.Bits(8), "x")
    assert repr(LITERAL) == "Literal(type=Bits(width=8), value=1)"


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError, match="value"):
        LITERAL.value = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="value"):
        del LITERAL.value


def test_records_match_by_position() -> None:
    match LITERAL:
        case ir.Literal(ir.Bits(width), value):
            assert (width, value) == (8, 1)
        case _:
            raise AssertionError


def test_a_program_is_stored_and_restored() -> None:
    program = load()
    again = restored(stored(program))
    function = again.functions["cycle"]
    assert "body" not in vars(function)
    assert function.body == program.functions["cycle"].body
    assert "body" in vars(again.handlers["CPUID"])  # all are read at once
    assert again == program
    assert replace(function, doc="") == replace(program.functions["cycle"], doc="")


def test_a_body_that_was_not_read_yet_is_compared_hashed_and_shown() -> None:
    data = stored(load())
    one, other, third = (restored(data).functions["cycle"] for _ in range(3))
    assert hash(one) == hash(other)
    assert one == other
    assert "body=(" in repr(third)
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_program_made_from_another_has_no_key() -> None:
    program = load()
    assert program.key
    assert replace(program, instructions={}).key is None
