"""Assembly source: its lines as trees, and the errors that point into them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

Node = Tree[Token]

MAX_LINE = 4096  # characters; nobody writes longer ones, and a binary file by mistake is one


class AssemblyError(Exception):
    """One error in a source file; the text is `file:line:column: error: message`."""

    def __init__(self, file: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{file}:{line}:{column}: error: {message}")
        self.line = line
        self.column = column


class AssemblyErrors(Exception):
    """All errors of a source file, in the order of its lines."""

    def __init__(self, errors: list[AssemblyError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty: `label` or None, and what follows it or None."""

    number: int
    text: str
    label: Token | None
    statement: Node | None


def parts(node: Node) -> list[Node | Token | None]:
    """The children of a node; None stands for an optional one that is absent."""
    return list(node.children)


def parse(text: str, file: str) -> list[Line]:
    """The lines of a source text.  Raises AssemblyErrors with every line that cannot be read."""
    lines: list[Line] = []
    errors: list[AssemblyError] = []
    for number, content in enumerate(text.split("\n"), start=1):
        try:
            line = _parse_line(content, number, file)
        except AssemblyError as error:
            errors.append(error)
            continue
        if line.label is not None or line.statement is not None:
            lines.append(line)
    if errors:
        raise AssemblyErrors(errors)
    return lines


def _parse_line(content: str, number: int, file: str) -> Line:
    if len(content) > MAX_LINE or "\0" in content:
        raise AssemblyError(file, number, 1, "this is not a line of text")
    try:
        tree = _parser().parse(content)
    except UnexpectedInput as error:
        column = error.column if error.column > 0 else len(content.rstrip()) + 1
        raise AssemblyError(file, number, column, _explain(error)) from None
    label, statement = (*parts(tree), None)[:2]
    name = parts(label)[0] if isinstance(label, Tree) else None
    return Line(
        number,
        content,
        name if isinstance(name, Token) else None,
        statement if isinstance(statement, Tree) else None,
    )


def _explain(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedCharacters):
        return f"unexpected character {error.char!r}"
    if isinstance(error, UnexpectedEOF) or (
        isinstance(error, UnexpectedToken) and error.token.type == "$END"
    ):
        return "the line ends too early"
    if isinstance(error, UnexpectedToken):
        return f"unexpected '{error.token}'"
    return "cannot read this line"


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("assembly.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="line", parser="lalr", propagate_positions=True, maybe_placeholders=True)
