"""Cases of refuted lemmas about texts of the fast model alone: numbers with which a text does what it should not."""

from __future__ import annotations

from collections.abc import Mapping

from checks.case import Case

KIND = "text"
WRONG = "the text of the fast model does something else than the lemma says"
REACHES = "reaches its claim"
"""The witness of such a lemma."""


def word_at(address: int) -> str:
    """The name of a word of the state block, or of a table."""
    return f"words[{address}]"


def text_case(goal: str, numbers: Mapping[str, int]) -> dict[str, object]:
    """The document of a case."""
    return Case(
        kind=KIND, id=goal, code=b"", expected=numbers, columns=("lemma", "text"), text=WRONG
    ).document()
