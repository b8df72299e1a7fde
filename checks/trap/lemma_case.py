"""Cases of refuted lemmas: two states that look the same to the guest, and what they are about."""

from __future__ import annotations

from collections.abc import Mapping

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
