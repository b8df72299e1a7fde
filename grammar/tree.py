"""The trees that the parser makes."""

from __future__ import annotations

from typing import Any

from lark import Token, Tree
from lark.tree import Meta


class Node(Tree[Token]):
    """A tree whose shape the grammar promises: `children` are nodes, tokens, or None for an absent part."""

    children: list[Any]

    def __init__(self, data: str, children: list[Any], meta: Meta | None = None) -> None:
        # Plain text, not the token that lark takes it from: `data` is compared all the time.
        super().__init__(str(data), children, meta)
