"""Clauses: the ways that the specification's text can go, for the variant that notes which were taken.

A clause is a place of the text with an outcome: an instruction that is executed; an `if`, `check`, `exit` or
`require` whose condition holds or does not. The instances of a function for several widths, and the rounds of a loop,
share theirs.
"""

from __future__ import annotations

from grammar.source import Span

# By kind of statement: what happens if the condition of the IR holds, and if it does not.
OUTCOMES = {
    "if": ("holds", "does not hold"),
    "check": ("fails", "passes"),
    "exit": ("exits", "does not exit"),
    "require": ("fails", "passes"),
}


class Clauses:
    """Numbers the clauses while the text is written."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str, str], int] = {}

    def mark(self, span: Span, kind: str, outcome: str) -> str:
        """The line that notes a clause."""
        key = f"{span.file}:{span.line}:{span.column}", kind, outcome
        return f"HITS[{self._numbers.setdefault(key, len(self._numbers))}] = 1"

    def text(self) -> list[str]:
        """The tables of the module: what was reached, and each clause's place, kind and outcome."""
        rows = [f"    ({place!r}, {kind!r}, {outcome!r})," for place, kind, outcome in self._numbers]
        return [f"HITS = bytearray({len(rows)})", "", "CLAUSES = (", *rows, ")", ""]
