"""The trees that the parser makes."""

from __future__ import annotations

from typing import Any

from lark import Token, Tree


class Node(Tree[Token]):
    """A tree whose shape the grammar promises: `children` are nodes, tokens, or None for an absent part."""

    children: list[Any]
