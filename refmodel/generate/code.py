"""Python text with just the parentheses it needs, and lines that fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import indent, wrap

LINE_LENGTH = 110

# What stands before the expression of a statement that may be put in brackets as a whole.
_STATEMENT = re.compile(r"return |[\w.\[\], ]+ = ")

# How tightly Python's operators bind, loosest first.
CONDITIONAL, OR, AND, NOT, COMPARE, BIT_OR, BIT_XOR, BIT_AND, SHIFT, SUM, PRODUCT, UNARY, ATOM = range(13)

OPERATOR_LEVELS = {
    "or": OR,
    "and": AND,
    "==": COMPARE,
    "!=": COMPARE,
    "<": COMPARE,
    "<=": COMPARE,
    ">": COMPARE,
    ">=": COMPARE,
    "|": BIT_OR,
    "^": BIT_XOR,
    "&": BIT_AND,
    "<<": SHIFT,
    ">>": SHIFT,
    "+": SUM,
    "-": SUM,
    "*": PRODUCT,
}


@dataclass(frozen=True, slots=True)
class Code:
    """The text of an expression and how tightly its outermost operator binds."""

    text: str
    level: int = ATOM

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"


def operation(operator: str, left: Code, right: Code) -> Code:
    """`left operator right`.  Comparisons do not chain; the others associate to the left.

    Operands of bit operations get parentheses wherever they mix operators: not every reader knows what binds tighter.
    """
    level = OPERATOR_LEVELS[operator]
    tighter = UNARY if BIT_OR <= level <= SHIFT else level + 1
    left_level = tighter if level == COMPARE or left.level != level else level
    return Code(f"{left.at(left_level)} {operator} {right.at(tighter)}", level)


def joined(operator: str, parts: list[Code]) -> Code:
    """Two or more parts with one operator between them, or the only part itself."""
    result = parts[0]
    for part in parts[1:]:
        result = operation(operator, result, part)
    return result


def negation(operand: Code) -> Code:
    """`not operand`."""
    return Code(f"not {operand.at(NOT)}", NOT)


def choice(condition: Code, then: Code, otherwise: Code) -> Code:
    """`then if condition else otherwise`."""
    text = f"{then.at(CONDITIONAL + 1)} if {condition.at(CONDITIONAL + 1)} else {otherwise.at(CONDITIONAL)}"
    return Code(text, CONDITIONAL)


def call(function: str, arguments: list[Code]) -> Code:
    """`function(arguments)`."""
    return Code(f"{function}({', '.join(a.text for a in arguments)})")


def number(value: int) -> Code:
    """A constant: small ones in decimal, the others in hexadecimal with digits in groups of four."""
    if value < 10:
        return Code(str(value))
    digits = f"{value:_X}"
    return Code(f"0x{digits}")


def docstring(*paragraphs: str) -> list[str]:
    """The lines of a docstring."""
    texts = [p.strip().replace("\\", "\\\\").replace('"""', "'''") for p in paragraphs if p.strip()]
    lines = [line for text in texts for line in (*wrap(text, LINE_LENGTH - 12), "")][:-1]
    if not lines:
        return []
    if len(lines) == 1:
        return [f'"""{lines[0]}"""']
    return [f'"""{lines[0]}', *lines[1:], '"""']


def comment(text: str) -> list[str]:
    """The lines of a comment; none if there is nothing to say."""
    return [f"# {line}" for line in wrap(text, LINE_LENGTH - 12)]


def indented(lines: list[str]) -> list[str]:
    """The lines one level deeper."""
    return indent("\n".join(lines), "    ").split("\n") if lines else []


def fold(line: str) -> list[str]:
    """Breaks a long line at its outermost brackets: each argument or operand gets a line of its own."""
    if len(line) <= LINE_LENGTH:
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    body = line.strip()
    statement = _STATEMENT.match(body)
    parts = _split(body[statement.end() :]) if statement else []
    if statement and len(parts) > 1:
        inner = [piece for part in parts for piece in fold(f"{margin}    {part}")]
        return [f"{margin}{statement[0]}(", *inner, f"{margin})"]
    start, end = _outermost(body)
    if start < 0:
        return [line]
    parts = _split(body[start + 1 : end])
    if len(parts) == 1 and "(" not in parts[0]:
        return [line]
    inner = [piece for part in parts for piece in fold(f"{margin}    {part}")]
    return [f"{margin}{body[: start + 1]}", *inner, *fold(f"{margin}{body[end:]}")]


def _outermost(text: str) -> tuple[int, int]:
    """The widest pair of round brackets at depth 0, (-1, -1) if there is none."""
    depth, start, best = 0, -1, (-1, -1)
    for position, letter in enumerate(text):
        if letter in "([{":
            if depth == 0 and letter == "(":
                start = position
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0 and start >= 0:
                if position - start > best[1] - best[0]:
                    best = (start, position)
                start = -1
    return best


def _split(text: str) -> list[str]:
    """Cuts after commas and before loose operators that stand outside all brackets."""
    pieces, depth, begin = [], 0, 0
    for position, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif depth == 0 and letter == ",":
            pieces.append(text[begin : position + 1])
            begin = position + 1
        elif (
            depth == 0
            and letter == " "
            and text.startswith((" or ", " and ", " | ", " if ", " else "), position)
        ):
            pieces.append(text[begin:position])
            begin = position
    pieces.append(text[begin:])
    return [piece.strip() for piece in pieces if piece.strip()]
