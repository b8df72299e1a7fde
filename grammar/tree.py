"""The trees that the parser makes: nodes and tokens with their places in the text of their item."""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern
from typing import Any

from grammar.source import Span

ABSENT = -1  # the beginning and end of what takes no room in the text
UNKNOWN = -2  # the end of what ends with the text


class Token(str):
    """A word of the text, from one offset in it to another; `kind` is the name of its terminal."""

    __slots__ = ("end", "kind", "start")

    kind: str
    start: int
    end: int

    def __str__(self) -> str:
        """The text alone; equal texts are one object, since they are kept in many places."""
        return intern(super().__str__())


class Node:
    """A tree whose shape the grammar promises: `children` are nodes, tokens, or None for an absent part."""

    __slots__ = ("children", "data", "end", "place", "start")

    def __init__(self, data: str, children: list[Any], start: int = ABSENT, end: int = ABSENT) -> None:
        self.data = data
        self.children = children
        self.start = start
        self.end = end
        self.place: Span | None = None  # when it was asked for

    def tokens(self) -> Iterator[Token]:
        """The tokens of this node and of those below it, its own first."""
        yield from (child for child in self.children if isinstance(child, Token))
        for child in self.children:
            if isinstance(child, Node):
                yield from child.tokens()

    def nodes(self) -> Iterator[Node]:
        """This node and all below it, from the left to the right."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.nodes()
