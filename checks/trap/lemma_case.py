"""Cases of refuted lemmas: two states that look the same to the guest, and what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from checks.case import Case
from grammar import ir

KIND = "lemma"
SAME_LOOKS = "they look the same"
THOUGH_DIFFERENT = f"{SAME_LOOKS}, though they differ"
"""The witnesses of the lemmas: there are two such states, and they need not be one."""


def lemma_case(
    program: ir.Program,
    goal: str,
    what: str,
    left: Mapping[str, int],
    right: Mapping[str, int],
    columns: tuple[str, str],
    text: str,
) -> dict[str, object]:
    """The document: the first state, and what the other has of its own; `what` is compared."""
    resets = {v.name: v.reset for v in program.state.values()}
    return Case(
        kind=KIND,
        id=goal,
        code=b"",
        instruction=what,
        state={name: value for name, value in left.items() if value != resets[name.split("[")[0]]},
        expected=dict(right),
        columns=columns,
        text=text,
    ).document()


def input_bits(expression: ir.Expr) -> tuple[ir.Read, int, int]:
    """The register that an input of translation is read from, and its highest and lowest bit."""
    if isinstance(expression, ir.Read):
        return expression, getattr(expression.type, "width", 1) - 1, 0
    field = cast(ir.Slice | ir.Bit, expression)
    if isinstance(field, ir.Slice):
        return cast(ir.Read, field.base), field.high, field.low
    number = cast(ir.Literal, field.index).value
    return cast(ir.Read, field.base), number, number


def input_text(expression: ir.Expr) -> str:
    """`CR0.WP`, `CR3[39..12]` or `EFER`."""
    read, high, low = input_bits(expression)
    if isinstance(expression, ir.Read):
        return read.name
    members = read.type.members if isinstance(read.type, ir.Bitfield) else ()
    named = next((m.name for m in members if (m.high, m.low) == (high, low)), None)
    return f"{read.name}.{named}" if named else f"{read.name}[{high}..{low}]"
