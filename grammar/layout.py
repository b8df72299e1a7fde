"""Turns indentation into tokens, so that the grammar stays context-free."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token
from lark.exceptions import UnexpectedToken
from lark.lark import PostLex

_OPEN = frozenset({"LPAR", "LSQB", "LBRACE"})
_CLOSE = frozenset({"RPAR", "RSQB", "RBRACE"})
# These end where the first line of their block begins; that column is the block's indentation.
_HANGING = frozenset({"_DO", "_ENCODING", "_UNDEFINED_ENCODING"})


class Layout(PostLex):
    """Inserts _INDENT and _DEDENT around blocks and drops line breaks inside brackets."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens with those of the layout between them."""
        columns = [0]
        depth = 0
        for token in stream:
            if token.type == "_NL":
                if depth == 0:
                    yield token
                    yield from _indentation(token, columns)
                continue
            if token.type in _OPEN:
                depth += 1
            elif token.type in _CLOSE:
                depth = max(0, depth - 1)
            yield token
            if token.type in _HANGING:
                columns.append((token.end_column or 1) - 1)
                yield Token.new_borrow_pos("_NL", "", token)
                yield Token.new_borrow_pos("_INDENT", "", token)
        while len(columns) > 1:
            columns.pop()
            yield Token("_DEDENT", "")


def _indentation(newline: Token, columns: list[int]) -> Iterator[Token]:
    column = len(newline) - (newline.rfind("\n") + 1)
    if column > columns[-1]:
        columns.append(column)
        yield Token.new_borrow_pos("_INDENT", "", newline)
    while column < columns[-1]:
        columns.pop()
        yield Token.new_borrow_pos("_DEDENT", "", newline)
    if column != columns[-1]:
        found = Token.new_borrow_pos("_INDENT", "", newline)
        raise UnexpectedToken(found, {"_DEDENT"})  # type: ignore[no-untyped-call]
