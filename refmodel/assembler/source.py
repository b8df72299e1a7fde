"""Assembly source: its lines as trees, and the errors that point into them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

Node = Tree[Token]

MAX_LINE = 4096  # characters; nobody writes longer ones, and a binary file by mistake is one
MAX_INCLUDES = 8  # files inside files


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

    file: str
    number: int
    text: str
    label: Token | None
    statement: Node | None


def parts(node: Node) -> list[Node | Token | None]:
    """The children of a node; None stands for an optional one that is absent."""
    return list(node.children)


def parse(text: str, file: str, depth: int = 0) -> list[Line]:
    """The lines of a source text, included files in their place (found beside `file`).

    Raises AssemblyErrors with every line that cannot be read.
    """
    lines: list[Line] = []
    errors: list[AssemblyError] = []
    for number, content in enumerate(text.split("\n"), start=1):
        try:
            line = _parse_line(content, number, file)
            included = _included_file(line)
            if included is not None:
                lines += _parse_included(line, included, depth)
            elif line.label is not None or line.statement is not None:
                lines.append(line)
        except AssemblyErrors as inner:
            errors += inner.errors
        except AssemblyError as error:
            errors.append(error)
    if errors:
        raise AssemblyErrors(errors)
    return lines


def _included_file(line: Line) -> str | None:
    """The file that an `include "file"` line names."""
    if line.statement is None or line.statement.data != "statement":
        return None
    _, mnemonic, *operands = parts(line.statement)
    if str(mnemonic).lower() != "include":
        return None
    inner = parts(operands[0])[1] if len(operands) == 1 and isinstance(operands[0], Tree) else None
    if not isinstance(inner, Tree) or inner.data != "string":
        raise AssemblyError(line.file, line.number, 1, 'write include "file"')
    return str(inner.children[0])[1:-1]


def _parse_included(line: Line, name: str, depth: int) -> list[Line]:
    path = Path(line.file).parent / name
    if depth == MAX_INCLUDES:
        raise AssemblyError(line.file, line.number, 1, "files include each other too deeply")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise AssemblyError(line.file, line.number, 1, f"cannot include '{name}': {reason}") from None
    return parse(text, str(path), depth + 1)


def _parse_line(content: str, number: int, file: str) -> Line:
    if len(content) > MAX_LINE or "\0" in content:
        raise AssemblyError(file, number, 1, "this is not a line of text")
    try:
        tree = _parser().parse(content)
    except UnexpectedInput as error:
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            column, message = len(content.rstrip()) + 1, "the line ends too early"
        else:
            column, message = error.column, _explain(error)
        raise AssemblyError(file, number, column, message) from None
    label, statement = (*parts(tree), None)[:2]
    name = parts(label)[0] if isinstance(label, Tree) else None
    return Line(
        file,
        number,
        content,
        name if isinstance(name, Token) else None,
        statement if isinstance(statement, Tree) else None,
    )


def _explain(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedCharacters):
        return f"unexpected character {error.char!r}"
    if isinstance(error, UnexpectedToken):
        return f"unexpected '{error.token}'"
    return "cannot read this line"


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("assembly.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="line", parser="lalr", propagate_positions=True, maybe_placeholders=True)
