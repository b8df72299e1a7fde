"""Assembling a source text: passes over its lines until every address stands still.

An instruction starts with its shortest encoding and only ever grows from pass to pass, so the passes end.
Errors are reported in the last pass, all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lark import Token, Tree

from grammar.widths import CODE_SIZES
from refmodel.assembler.expressions import ExpressionError, Scope, number, operand, string_bytes
from refmodel.assembler.source import AssemblyError, AssemblyErrors, Line, Node, parse, parts
from refmodel.encoder import Encoder, EncodingError
from refmodel.image import FLAT_ADDRESS
from refmodel.registers import BY_NAME

MAX_PASSES = 64
MAX_IMAGE = 1 << 24  # bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """What one source line became."""

    line: int
    address: int
    code: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Assembled:
    """A flat image to be loaded at `origin`, with its symbols and a listing."""

    origin: int
    code: bytes
    symbols: dict[str, int]
    listing: tuple[Listing, ...]


def assemble_file(path: Path, encoder: Encoder) -> Assembled:
    """Assembles a file; without an `org`, for the place where flat images are loaded.

    Raises AssemblyErrors, OSError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AssemblyErrors([AssemblyError(str(path), 1, 1, "this is not a text file")]) from None
    return assemble(text, encoder, str(path), FLAT_ADDRESS)


def assemble(text: str, encoder: Encoder, file: str = "<input>", origin: int = 0) -> Assembled:
    """Assembles a source text.  Raises AssemblyErrors with all errors.

    `file` is the name that errors print; included files are looked for beside it.  `origin` is the address of the
    first byte unless an `org` says it.
    """
    assembler = _Assembler(parse(text, file), encoder, origin)
    for _ in range(MAX_PASSES):
        before = dict(assembler.symbols), list(assembler.lengths)
        assembler.run(final=False)
        if before == (assembler.symbols, assembler.lengths):
            break
    assembler.run(final=True)
    if assembler.errors:
        raise AssemblyErrors(assembler.errors)
    return Assembled(
        assembler.origin, bytes(assembler.code), dict(assembler.symbols), tuple(assembler.listing)
    )


class _Assembler:
    """The state of a pass; between passes, the symbols and the length of each line's instruction are kept."""

    def __init__(self, lines: list[Line], encoder: Encoder, origin: int) -> None:
        self.lines = lines
        self.first_origin = origin
        self.encoders = {encoder.code_size: encoder}
        self.encoder = encoder
        self.symbols: dict[str, int] = {}
        self.lengths = [0] * len(lines)
        self._begin(final=False)

    def _begin(self, *, final: bool) -> None:
        self.final = final
        self.encoder = next(iter(self.encoders.values()))
        self.origin = self.first_origin
        self.code = bytearray()
        self.parent = ""
        self.defined: set[str] = set()
        self.errors: list[AssemblyError] = []
        self.listing: list[Listing] = []

    def run(self, *, final: bool) -> None:
        """One pass over all lines."""
        self._begin(final=final)
        for position, line in enumerate(self.lines):
            start = len(self.code)
            try:
                self._line(position, line)
            except ExpressionError as error:
                self._report(line, error.node, str(error))
            except EncodingError as error:
                self._report(line, line.statement, str(error))
            code = bytes(self.code[start:])
            self.listing.append(Listing(line.number, self.origin + start, code, line.text))

    def _report(self, line: Line, node: Node | Token | None, message: str) -> None:
        column = 1
        if isinstance(node, Token):
            column = node.column or 1
        elif isinstance(node, Tree):
            column = getattr(node.meta, "column", 1)
        self.errors.append(AssemblyError(line.file, line.number, column, message))

    @property
    def here(self) -> int:
        """The address of the next byte."""
        return self.origin + len(self.code)

    def _scope(self) -> Scope:
        return Scope(self.symbols, self.here, self.origin, self.parent, self.final)

    def _line(self, position: int, line: Line) -> None:
        if line.label is not None:
            if not line.label.startswith("."):
                self.parent = str(line.label)
            self._define(line.label, self.here)
        statement = line.statement
        if statement is None:
            return
        if statement.data == "constant":
            name, value = parts(statement)
            assert isinstance(name, Token)
            assert isinstance(value, Tree)
            self._define(name, number(value, self._scope()))
            return
        self._statement(position, statement)

    def _define(self, token: Token, value: int) -> None:
        name = self._scope().full_name(str(token))
        if name in self.defined:
            raise ExpressionError(token, f"'{name}' is already defined")
        if name.lower() in BY_NAME:
            raise ExpressionError(token, f"'{name}' is a register")
        self.defined.add(name)
        self.symbols[name] = value

    def _statement(self, position: int, node: Node) -> None:
        if node.data == "times":
            count, inner = parts(node)
            assert isinstance(count, Tree)
            assert isinstance(inner, Tree)
            for _ in range(self._count(count)):
                self._statement(position, inner)
                self._room(node, 0)
            return
        prefix, mnemonic, *rest = parts(node)
        operands = [child for child in rest if isinstance(child, Tree)]
        name = str(mnemonic).lower()
        directive = _DIRECTIVES.get(name)
        if directive is not None:
            directive(self, node, operands)
        else:
            self._instruction(position, name, operands, "" if prefix is None else str(prefix).lower())

    def _instruction(self, position: int, name: str, operands: list[Node], prefix: str) -> None:
        values = tuple(operand(node, self._scope()) for node in operands)
        candidates = self.encoder.encode(name, values, self.here, prefix)
        code = next((c for c in candidates if len(c) >= self.lengths[position]), candidates[-1])
        self.lengths[position] = max(self.lengths[position], len(code))
        self.code += code

    def _count(self, node: Node) -> int:
        count = number(node, self._scope())
        if not 0 <= count <= MAX_IMAGE:
            raise ExpressionError(node, f"the count is {count}, not from 0 to {MAX_IMAGE}")
        return count

    def _room(self, node: Node, size: int) -> None:
        if len(self.code) + size > MAX_IMAGE:
            raise ExpressionError(node, f"the image is larger than {MAX_IMAGE} bytes")

    def org(self, node: Node, operands: list[Node]) -> None:
        """Sets the address of the first byte."""
        if self.code:
            raise ExpressionError(node, "'org' must stand before anything else")
        self.origin = number(_one(node, operands), self._scope())

    def align(self, node: Node, operands: list[Node]) -> None:
        """Fills with zeros up to a multiple of a power of two."""
        alignment = self._count(_one(node, operands))
        if alignment == 0 or alignment & (alignment - 1):
            raise ExpressionError(node, "the alignment is not a power of two")
        self._append(node, bytes(-self.here % alignment))

    def zero(self, node: Node, operands: list[Node]) -> None:
        """Stores zeros."""
        self._append(node, bytes(self._count(_one(node, operands))))

    def bits(self, node: Node, operands: list[Node]) -> None:
        """Says what the code behind it is for: 64-bit mode, or segments of 32 or 16 bits."""
        size = number(_one(node, operands), self._scope())
        if size not in CODE_SIZES:
            raise ExpressionError(node, "'bits' takes 64, 32 or 16")
        if size not in self.encoders:
            self.encoders[size] = self.encoder.for_code(size)
        self.encoder = self.encoders[size]

    def _append(self, node: Node, data: bytes) -> None:
        self._room(node, len(data))
        self.code += data

    def data(self, node: Node, operands: list[Node], *, size: int) -> None:
        """Stores numbers of `size` bytes; a string is padded to a multiple of it."""
        scope = self._scope()  # `$` is the start of the line
        if not operands:
            raise ExpressionError(node, "nothing to store")
        for item in operands:
            inner = parts(item)[1]
            assert isinstance(inner, Tree)
            if inner.data == "string":
                data = string_bytes(inner)
                self._append(node, data + bytes(-len(data) % size))
                continue
            value = number(inner, scope)
            if not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
                raise ExpressionError(inner, f"{value:#x} does not fit {8 * size} bits")
            self._append(node, (value % (1 << 8 * size)).to_bytes(size, "little"))


def _one(node: Node, operands: list[Node]) -> Node:
    """The expression of a directive that takes one number."""
    inner = parts(operands[0])[1] if len(operands) == 1 else None
    if not isinstance(inner, Tree) or inner.data == "memory":
        raise ExpressionError(node, "this directive takes one number")
    return inner


_DIRECTIVES: dict[str, Callable[[_Assembler, Node, list[Node]], None]] = {
    "org": _Assembler.org,
    "align": _Assembler.align,
    "zero": _Assembler.zero,
    "bits": _Assembler.bits,
    "db": partial(_Assembler.data, size=1),
    "dw": partial(_Assembler.data, size=2),
    "dd": partial(_Assembler.data, size=4),
    "dq": partial(_Assembler.data, size=8),
}
