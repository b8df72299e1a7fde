"""Text to tree: splits a file into items and parses each, so that one bad item hides no other error."""

from __future__ import annotations

import functools
import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from grammar.cachedir import cache_directory
from grammar.diagnostics import Diagnostic
from grammar.driver import Driver, Wrong
from grammar.layout import Layout
from grammar.precedence import PrecedenceError, chain_tree
from grammar.source import Span
from grammar.tree import ABSENT, UNKNOWN, Node, Token

# A file larger than this is not a specification; saying so beats parsing it for minutes.
MAXIMUM_BYTES = 2_000_000
MAXIMUM_ERRORS = 50
MAXIMUM_DEPTH = 50
_START = "item"  # of the grammar
TOO_COMPLEX = "this item is too complex: an expression has too many operators"


@dataclass(frozen=True, slots=True)
class Item:
    """One top-level item: its tree, its documentation, and the lines that docs of members are taken from."""

    tree: Node
    doc: str
    file: str
    first_line: int
    lines: tuple[str, ...]
    begins: tuple[int, ...]  # the offsets at which the lines begin

    def span(self, node: Node | Token) -> Span:
        """The place of a tree or token of this item; an empty tree stands where the item begins."""
        if isinstance(node, Token):
            return self._span(node)
        if node.place is None:
            node.place = self._span(node)
        return node.place

    def _span(self, node: Node | Token) -> Span:
        if node.start == ABSENT:
            return Span(self.file, self.first_line, 1, self.first_line, 2)
        line, column = self._place(node.start)
        end_line, end_column = (line, 2) if node.end == UNKNOWN else self._place(node.end)
        return Span(self.file, line, column, end_line, end_column)

    def _place(self, offset: int) -> tuple[int, int]:
        """The line and the column of an offset."""
        line = bisect_right(self.begins, offset)
        return self.first_line - 1 + line, offset - self.begins[line - 1] + 1

    def doc_of(self, node: Node | Token) -> str:
        """The `///` comment behind or directly above a member."""
        line = self.span(node).line - self.first_line
        behind = self.lines[line].partition("///")[2].strip()
        return behind or _doc_above(self.lines, line)


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The items of a file that parsed, and the errors of the others."""

    items: tuple[Item, ...]
    errors: tuple[Diagnostic, ...]
    # Names that items with errors seem to declare; not reported as unknown again.
    suspects: frozenset[str]


@functools.cache
def _lark() -> Lark:
    grammar = Path(__file__).with_name("nonroot.lark")
    directory = cache_directory()
    return Lark(
        grammar.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        start=_START,
        postlex=Layout(),
        maybe_placeholders=True,
        cache=str(directory / "grammar.lark-cache") if directory else False,
    )


@functools.cache
def _driver() -> Driver:
    return Driver(_lark(), _START, {"chain": chain_tree})


def _tree(text: str) -> Node:
    """The tree of an item.  Raises `UnexpectedInput`, or `PrecedenceError` if nothing else is wrong."""
    try:
        return _driver().parse(text)
    except PrecedenceError:
        _lark().parse(text)
        raise
    except Wrong:
        _lark().parse(text)
        raise AssertionError("lark takes a text that its tables refuse") from None


def read_source(path: Path, name: str) -> tuple[str, list[Diagnostic]]:
    """The text of a file, or why it is not text."""
    place = Span(name, 1, 1, 1, 2)
    try:
        data = path.read_bytes()
    except OSError as error:
        return "", [Diagnostic("unreadable", f"cannot read the file: {error.strerror}", place)]
    if len(data) > MAXIMUM_BYTES:
        message = f"the file has {len(data)} bytes; a specification file has at most {MAXIMUM_BYTES}"
        return "", [Diagnostic("too-large", message, place, hint="split it into modules")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not a text file: byte {data[error.start]:#04x} at offset {error.start} is not UTF-8"
        return "", [Diagnostic("not-text", message, place)]
    return text, [] if text.strip() else [Diagnostic("empty", "the file is empty", place)]


def parse(text: str, file: str) -> ParsedFile:
    """Parses all items of a file; a bad item becomes one error and does not hide the others."""
    lines = text.split("\n")
    items: list[Item] = []
    errors: list[Diagnostic] = []
    suspects: set[str] = set()
    for start, end in _chunks(lines):
        if len(errors) >= MAXIMUM_ERRORS:
            errors.append(
                Diagnostic(
                    "too-many", "too many errors; the rest is not shown", _line_span(file, start, lines)
                )
            )
            break
        body = "\n".join(lines[start:end])
        bad = re.search(r"[^\x20-\x7e\n\r\u00a0-\uffff]", body)
        if bad:
            errors.append(_bad_character(file, start, body, bad.start()))
            continue
        if _depth(body) > MAXIMUM_DEPTH:
            errors.append(
                _too_deep(file, start, lines, f"brackets are nested more than {MAXIMUM_DEPTH} deep")
            )
            continue
        try:
            tree = _tree(body + "\n")
        except PrecedenceError as error:
            errors.append(_precedence_error(error, file, start, body))
            continue
        except RecursionError:
            errors.append(_too_deep(file, start, lines, TOO_COMPLEX))
            continue
        except UnexpectedInput as error:
            errors.append(_syntax_error(error, file, start, lines))
            suspects |= set(re.findall(r"#?[A-Za-z_]\w*", lines[start]))
            suspects |= {m for line in lines[start:end] for m in re.findall(r"^\s+([A-Z_]\w*)\s", line)}
            continue
        own = lines[start:end]
        begins = itertools.accumulate((len(line) + 1 for line in own), initial=0)
        items.append(Item(tree, _doc_above(lines, start), file, start + 1, tuple(own), tuple(begins)))
    return ParsedFile(tuple(items), tuple(errors), frozenset(suspects))


def _chunks(lines: list[str]) -> list[tuple[int, int]]:
    """Ranges of lines of the items: each starts with a line that is not indented."""
    starts = [
        i
        for i, line in enumerate(lines)
        if line.strip() and line[0] not in " \t" and not line.startswith("//")
    ]
    if not starts and any(line.strip() and not line.lstrip().startswith("//") for line in lines):
        starts = [
            next(i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("//"))
        ]
    chunks = []
    for start, following in itertools.pairwise([*starts, len(lines)]):
        end = following
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("//")):
            end -= 1
        chunks.append((start, end))
    return chunks


def _doc_above(lines: list[str] | tuple[str, ...], index: int) -> str:
    doc: list[str] = []
    while index > 0 and lines[index - 1].lstrip().startswith("///"):
        index -= 1
        doc.insert(0, lines[index].lstrip()[3:].strip())
    return "\n".join(doc)


def _depth(body: str) -> int:
    brackets = re.findall(r"[][(){}]", body)
    return max(itertools.accumulate(1 if c in "([{" else -1 for c in brackets), default=0)


def _too_deep(file: str, start: int, lines: list[str], message: str) -> Diagnostic:
    return Diagnostic("nesting", message, _line_span(file, start, lines), hint="name the parts with `let`")


def _line_span(file: str, index: int, lines: list[str]) -> Span:
    return Span(file, index + 1, 1, index + 1, len(lines[index]) + 1)


def _bad_character(file: str, start: int, body: str, position: int) -> Diagnostic:
    line = start + 1 + body.count("\n", 0, position)
    column = position - (body.rfind("\n", 0, position) + 1) + 1
    character = body[position]
    hint = "indent with spaces" if character == "\t" else "the file seems not to be a specification"
    what = "a tab" if character == "\t" else f"the control character {ord(character):#04x}"
    return Diagnostic(
        "character", f"{what} is not allowed", Span(file, line, column, line, column + 1), hint=hint
    )


def _last_line(lines: list[str], start: int) -> int:
    """The last line of the item that begins at `start`."""
    return next(end for first, end in _chunks(lines) if first == start) - 1


_EXPECTED = {
    "_NL": "the end of the line",
    "_INDENT": "an indented block",
    "_DEDENT": "the end of the block",
    "NAME": "a name",
    "NUMBER": "a number",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "EQUAL": "'='",
    "COLON": "':'",
    "COMMA": "','",
    "DOTS": "'..'",
    "HEX": "an opcode byte",
    "INFIX": "an operator",
    "PREFIX": "an operator",
    "MODRM": "'/r' or '/digit'",
    "PLUS": "'+'",
    "DOT": "'.'",
    "_ASSIGN": "':='",
}


def _precedence_error(error: PrecedenceError, file: str, start: int, body: str) -> Diagnostic:
    begin = error.token.start
    line, column = start + 1 + body.count("\n", 0, begin), begin - body.rfind("\n", 0, begin)
    return Diagnostic("syntax", str(error), Span(file, line, column, line, column + len(error.token)))


_ITEM_WORDS = (
    "include, type, enum, bitfield, struct, register, vmcs, state, ghost, memory, const, function, operands, "
    "undefined_encoding, instruction, step, handler, invariant, policy, rules, transfer, abort or output"
)


def _syntax_error(error: UnexpectedInput, file: str, start: int, lines: list[str]) -> Diagnostic:
    line, column = (error.line or 0, error.column or 0) if hasattr(error, "line") else (0, 0)
    width = 1
    expected: set[str] = set()
    what = "unexpected end"
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        token = error.token
        width = max(1, len(token)) if token.type not in {"_NL", "_INDENT", "_DEDENT", "$END"} else 1
        names = {
            "_NL": "end of line",
            "_INDENT": "indentation",
            "_DEDENT": "end of block",
            "$END": "end of item",
        }
        what = f"unexpected {names.get(token.type, repr(str(token)))}"
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
        what = f"unexpected character {error.char!r}"
    elif isinstance(error, UnexpectedEOF):
        expected = set(error.expected)
    if line < 1 or column < 1:
        line = _last_line(lines, start) - start + 1
        column = len(lines[start + line - 1]) + 1
    number = start + line
    if line == 1 and column == 1:
        first = lines[start].split()[0][:40] if lines[start].split() else ""
        return Diagnostic(
            "syntax",
            f"'{first}' does not begin an item",
            Span(file, number, 1, number, len(first) + 1),
            hint=f"an item begins with {_ITEM_WORDS}",
        )
    wanted = sorted({_EXPECTED.get(name, f"'{name.lower().lstrip('_')}'") for name in expected})
    message = what + (f"; expected {', '.join(wanted)}" if 0 < len(wanted) <= 6 else "")
    return Diagnostic("syntax", message, Span(file, number, column, number, column + width))
