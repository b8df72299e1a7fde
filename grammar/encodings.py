"""Rows of opcode tables, and the operand widths they give an instruction."""

from __future__ import annotations

from grammar import ir
from grammar.environment import fail, parse_number, suggestion
from grammar.parse import Item
from grammar.source import Span
from grammar.tree import Node, Token
from grammar.widths import every_operand_size, operand_width

KINDS = frozenset(
    {
        "rm",
        "rm_memory",
        "rm_register",
        "rm_as_register",
        "reg",
        "opcode_register",
        "immediate",
        "signed_immediate",
        "relative",
        "offset",
        "control_register",
        "debug_register",
        "segment_register",
        "register",
        "memory_at",
        "es_memory_at",
        "one",
    }
)
# Kinds whose row gives the number of a general register before the width.
REGISTER_KINDS = frozenset({"register", "memory_at", "es_memory_at"})
WIDTHS = frozenset({"8", "16", "32", "64", "128", "v", "z", "y", "none"})
ATTRIBUTES = frozenset({"d64", "f64", "i64", "o64", "lock", "rep", "repe"})
# Operands that are memory and never a register.
MEMORY_KINDS = frozenset({"rm_memory", "memory_at", "es_memory_at", "offset"})
# A value operand that cannot be assigned to.
READ_ONLY_KINDS = frozenset({"immediate", "signed_immediate", "relative", "one"})


def operand_codes(item: Item) -> dict[str, ir.OperandCode]:
    """The `operands` table."""
    codes: dict[str, ir.OperandCode] = {}
    for row in item.tree.children:
        name, kind, *rest = (str(c) for c in row.children)
        if kind not in KINDS:
            raise fail(
                "operand",
                f"unknown kind of operand '{kind}'",
                item.span(row.children[1]),
                hint=f"one of {', '.join(sorted(KINDS))}",
            )
        register = None
        if kind in REGISTER_KINDS:
            register = parse_number(rest.pop(0)) if rest and rest[0].isdigit() else None
            if register is None:
                raise fail("operand", f"`{kind}` needs the register's number", item.span(row))
        if len(rest) != 1 or rest[0] not in WIDTHS:
            raise fail("operand", "the width must be 8, 16, 32, 64, 128, v, z, y or none", item.span(row))
        width = None if rest[0] == "none" else int(rest[0]) if rest[0].isdigit() else rest[0]
        codes[name] = ir.OperandCode(name, kind, width, register, item.doc_of(row))
    return codes


def encoding_row(item: Item, node: Node, family: tuple[str, int] | None) -> ir.EncodingRow:
    """One row; `family` is the family's variable and its value."""
    prefixes: list[str] = []
    opcode: list[ir.OpcodeByte] = []
    modrm: int | str | None = None
    words: list[Token] = []
    for child in node.children:
        if child is None:
            continue
        if isinstance(child, Token):
            modrm = _modrm(item, child, family)
        elif child.data == "prefix":
            prefixes.append(str(child.children[0]))
        elif child.data == "words":
            words = list(child.children)
        else:
            opcode.append(_opcode(item, child, family))
    operands = tuple(str(w) for w in words if str(w) not in ATTRIBUTES)
    attributes = tuple(str(w) for w in words if str(w) in ATTRIBUTES)
    return ir.EncodingRow(item.span(node), tuple(prefixes), tuple(opcode), modrm, operands, attributes)


def _modrm(item: Item, token: Token, family: tuple[str, int] | None) -> int | str:
    text = str(token)[1:]
    if text == "r":
        return "r"
    value = family[1] if family and family[0] == text else int(text) if text.isdigit() else 8
    if value > 7:
        raise fail("encoding", f"'/{text}' is neither /r nor /0 to /7", item.span(token))
    return value


def _opcode(item: Item, node: Node, family: tuple[str, int] | None) -> ir.OpcodeByte:
    value = int(str(node.children[0]), 16)
    if node.data == "opcode":
        return ir.OpcodeByte(value)
    name = str(node.children[-1])
    if node.data == "opcode_plus" and name == "r":
        return ir.OpcodeByte(value, register=True)
    if family is None or family[0] != name:
        raise fail("encoding", f"'{name}' is not the family's variable", item.span(node))
    factor = int(str(node.children[1])) if node.data == "opcode_times" else 1
    value += factor * family[1]
    if value > 0xFF:
        raise fail("encoding", f"the opcode byte {value:#x} is too large", item.span(node))
    return ir.OpcodeByte(value)


def width_tuples(row: ir.EncodingRow, codes: dict[str, ir.OperandCode]) -> list[tuple[int | None, ...]]:
    """The distinct tuples of operand widths a row gives over its operand sizes, in code of any size."""
    sizes = every_operand_size(row)
    tuples = [tuple(operand_width(codes[o], size) for o in row.operands) for size in sizes]
    return list(dict.fromkeys(tuples))


def check_operands(row: ir.EncodingRow, codes: dict[str, ir.OperandCode], count: int, span: Span) -> None:
    """An error if a row names an unknown operand code or has another number of operands than the instruction."""
    for name in row.operands:
        if name not in codes:
            raise fail(
                "operand",
                f"unknown operand code '{name}'",
                row.span,
                hint=suggestion(name, codes) or "see the `operands` tables",
            )
    if len(row.operands) != count:
        raise fail(
            "operand",
            f"the row has {len(row.operands)} operand(s), the instruction {count}",
            row.span,
            [(span, "the instruction")],
        )
