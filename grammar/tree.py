"""The trees that the parser makes."""

from __future__ import annotations

from typing import Any, cast

from lark import Token, Tree
from lark.tree import Meta


class Node(Tree[Token]):
    """A tree whose shape the grammar promises: `children` are nodes, tokens, or None for an absent part."""

    children: list[Any]
    # Not lark's property, which makes it when first asked for: every node is asked, many times.
    meta: Meta = cast(Meta, None)

    def __init__(self, data: str, children: list[Any], meta: Meta | None = None) -> None:
        # Plain text, not the token that lark takes it from: `data` is compared all the time.
        self.data = str(data)
        self.children = children
        self.meta = Meta() if meta is None else meta  # type: ignore[no-untyped-call]
