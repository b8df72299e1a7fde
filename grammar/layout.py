"""Turns indentation into tokens, so that the grammar stays context-free."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token
from lark.exceptions import UnexpectedToken
from lark.lark import PostLex

OPEN = frozenset({"LPAR", "LSQB", "LBRACE"})
CLOSE = frozenset({"RPAR", "RSQB", "RBRACE"})
# These end where the first line of their block begins; that column is the block's indentation.
HANGING = frozenset({"_DO", "_ENCODING", "_UNDEFINED_ENCODING"})


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
                    for kind in indentation(token, columns):
                        yield Token.new_borrow_pos(kind, "", token)
                    if indent_of(token) != columns[-1]:
                        found = Token.new_borrow_pos("_INDENT", "", token)
                        raise UnexpectedToken(found, {"_DEDENT"})  # type: ignore[no-untyped-call]
                continue
            if token.type in OPEN:
                depth += 1
            elif token.type in CLOSE:
                depth = max(0, depth - 1)
            yield token
            if token.type in HANGING:
                columns.append((token.end_column or 1) - 1)
                yield Token.new_borrow_pos("_NL", "", token)
                yield Token.new_borrow_pos("_INDENT", "", token)
        while len(columns) > 1:
            columns.pop()
            yield Token("_DEDENT", "")


def indent_of(newline: str) -> int:
    """How far the line is indented that a line break leads to."""
    return len(newline) - (newline.rfind("\n") + 1)


def indentation(newline: str, columns: list[int]) -> Iterator[str]:
    """What a line break means for the columns of the open blocks: one begins, or some end.

    The last of `columns` is then that of the line, unless the line stands between two of them, which is an error.
    """
    column = indent_of(newline)
    if column > columns[-1]:
        columns.append(column)
        yield "_INDENT"
    while column < columns[-1]:
        columns.pop()
        yield "_DEDENT"
