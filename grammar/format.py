"""Lays out specification files: indentation by two, clauses and tables in columns, comments kept.

Works on lines, guided by the tree of each item, and compares the trees before and after, so that formatting
can never change a meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from grammar.diagnostics import SpecificationError
from grammar.parse import ParsedFile, parse
from grammar.tree import Node, Token

# Widths of the first column of clauses; the longest word of each kind and two blanks.
_CLAUSE_COLUMN = 10
_OWNERSHIP_COLUMN = 7
_CLAUSES = re.compile(r"(encoding|syntax|check|exit|do|require|undefined_encoding)\s+(?=\S)(?!//)")
_OWNERSHIP = re.compile(r"(owner|view|host)\s+(?=\S)")
_CONTINUES = re.compile(r"(when|and|or|then)\b|else +[^ /]|\|[^|]|[&+*^]|==|!=|<|>")
# How the rows of each kind of table split into cells.
_CELLS = {
    "enum_member": re.compile(r"(\S+)\s*(=\s*\S+)"),
    "bitfield_member": re.compile(r"(\S+)\s+(.+)"),
    "operand_code": re.compile(r"(\S+)\s+(\S+)\s+(.+)"),
    "transfer_row": re.compile(r"(.+?)\s*(<->\s*.+)"),
    "row": re.compile(
        r"((?:\S+ ?\+ ?)?(?:(?:REX\.[WRB]|NP|W0) ?\+? ?)*"  # prefixes
        r"[0-9A-F]{2}\S*(?: [0-9A-F]{2}\S*)*(?: /\w+)?)\s*"  # opcode
        r"((?:(?!lock\b|d64\b|f64\b)\S+\s*)*)(.*)"  # operands, attributes
    ),
}


@dataclass(slots=True)
class _Line:
    column: int
    code: str
    comment: str
    kind: str = ""
    in_clauses: bool = False  # of an instruction or a step, whose clauses stand in columns
    new_column: int = 0
    cells: list[str] = field(default_factory=list)


def format_text(text: str, file: str = "<text>") -> str:
    """The text laid out.  Raises `SpecificationError` if it does not parse."""
    before = parse(text, file)
    if before.errors:
        raise SpecificationError(before.errors, {file: text})
    lines = [_split(line) for line in text.split("\n")]
    _mark_rows(lines, before)
    _indent(lines)
    _align_tables(lines)
    result = _join(lines)
    if not _same_shape(before, parse(result, file)):
        raise AssertionError(f"formatting {file} would change its meaning")
    return result


def _split(line: str) -> _Line:
    body = line.strip()
    position = _comment_start(body)
    return _Line(len(line) - len(line.lstrip()), body[:position].rstrip(), body[position:].rstrip())


def _comment_start(body: str) -> int:
    quoted = False
    for i, character in enumerate(body):
        if character == '"':
            quoted = not quoted
        if not quoted and body.startswith("//", i):
            return i
    return len(body)


def _mark_rows(lines: list[_Line], parsed: ParsedFile) -> None:
    for item in parsed.items:
        if item.tree.data in ("instruction", "step"):
            first = item.span(item.tree).line - 1
            for line in lines[first : first + len(item.lines)]:
                line.in_clauses = True
        for node in item.tree.nodes():
            if node.data in _CELLS:
                lines[item.span(node).line - 1].kind = node.data


def _indent(lines: list[_Line]) -> None:
    """Gives each line its new column; the stack maps old columns of open blocks to new ones."""
    stack = [(0, 0)]
    depth = 0
    start = (0, 0)
    comments: list[_Line] = []  # since the last line of code
    for line in lines:
        if not line.code:
            line.new_column = next((new for old, new in reversed(stack) if old <= line.column), 0)
            comments.append(line)
            continue
        if depth > 0 or (_CONTINUES.match(line.code) and line.column > stack[-1][0]):
            line.new_column = max(0, start[1] + line.column - start[0])
        else:
            while stack[-1][0] > line.column:
                stack.pop()
            if line.column > stack[-1][0]:
                stack.append((line.column, stack[-1][1] + 2))
            line.new_column = stack[-1][1]
            start = (line.column, line.new_column)
            _pad_clause(line, stack)
        for comment in comments:  # a comment that stands above a line goes with it
            if comment.column == line.column:
                comment.new_column = line.new_column
        comments.clear()
        depth += sum(line.code.count(c) for c in "([{") - sum(line.code.count(c) for c in ")]}")


def _pad_clause(line: _Line, stack: list[tuple[int, int]]) -> None:
    """Puts what follows a clause's word in its column; a block may begin there."""
    for pattern, column in ((_CLAUSES, _CLAUSE_COLUMN), (_OWNERSHIP, _OWNERSHIP_COLUMN)):
        match = pattern.match(line.code)
        if match is None or (line.new_column == 0 and match[1] != "undefined_encoding"):
            continue
        if (
            pattern is _CLAUSES
            and match[1] in ("check", "exit", "require")
            and not (line.in_clauses and line.new_column == 2)
        ):
            line.code = f"{match[1]} {line.code[match.end() :]}"
            return
        padded = f"{match[1]:<{column}}" if len(match[1]) < column else match[1] + "  "
        if match[1] in ("do", "encoding", "undefined_encoding"):
            stack.append((line.column + match.end(), line.new_column + len(padded)))
        line.code = padded + line.code[match.end() :]
        return


def _align_tables(lines: list[_Line]) -> None:
    """Lines up the cells of consecutive rows of one kind, and the comments behind them."""
    start = 0
    while start < len(lines):
        end = start + 1
        while lines[start].kind and end < len(lines) and lines[end].kind == lines[start].kind:
            end += 1
        if lines[start].kind:
            _align(lines[start:end])
        start = end


def _align(rows: list[_Line]) -> None:
    heads, cells = [], []
    for row in rows:
        clause = re.match(r"(encoding|undefined_encoding)\s+", row.code)
        head = clause[0] if clause else ""
        match = _CELLS[row.kind].fullmatch(row.code[len(head) :])
        heads.append(head)
        cells.append([_cell(g) for g in match.groups()] if match else [row.code[len(head) :]])
    count = max(len(c) for c in cells)
    widths = [max((len(c[i]) for c in cells if i < len(c)), default=0) for i in range(count)]
    gap = " " if rows[0].kind in ("enum_member", "transfer_row") else "  "
    for row, head, parts in zip(rows, heads, cells, strict=True):
        row.code = head + gap.join(p.ljust(widths[i]) for i, p in enumerate(parts)).rstrip()
    ends = [row.new_column + len(row.code) for row in rows]
    for row in rows:
        if row.comment:
            row.code = row.code.ljust(max(ends) - row.new_column)


def _cell(text: str) -> str:
    """One blank between words, and behind a leading `=` or `<->`."""
    return re.sub(r"^(=|<->)\s*", r"\1 ", re.sub(r"\s+", " ", text).strip())


def _join(lines: list[_Line]) -> str:
    result: list[str] = []
    for line in lines:
        text = line.code + ("  " if line.code and line.comment else "") + line.comment
        if text or (result and result[-1]):
            result.append((" " * line.new_column + text) if text else "")
    while result and not result[-1]:
        result.pop()
    return "\n".join(result) + "\n"


def _same_shape(before: ParsedFile, after: ParsedFile) -> bool:
    """Whether both have the same trees (without recursion: a tree may be deep)."""
    return len(before.items) == len(after.items) and all(
        a.doc == b.doc and _words(a.tree) == _words(b.tree)
        for a, b in zip(before.items, after.items, strict=True)
    )


def _words(tree: Node) -> list[str]:
    """The nodes and tokens of a tree in preorder, each node with its number of children."""
    words: list[str] = []
    pending: list[Node | Token | None] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Node):
            words.append(f"{node.data}/{len(node.children)}")
            pending.extend(reversed(node.children))
        else:
            words.append(re.sub(r"\s+", " ", str(node)))
    return words
