"""Checks instruction items: families expanded, one body for each tuple of operand widths."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from grammar import ir
from grammar.encodings import READ_ONLY_KINDS, check_operands, encoding_row, width_tuples
from grammar.environment import CheckError, Environment, fail, width_of
from grammar.functions import FunctionTable, parameter_nodes
from grammar.parse import Item
from grammar.scope import OperandName, Scope
from grammar.statements import StatementChecker
from grammar.tree import Node

Report = Callable[[CheckError], None]
Widths = tuple[int | None, ...]


def check_instruction(
    env: Environment, functions: FunctionTable, codes: dict[str, ir.OperandCode], item: Item, report: Report
) -> Iterator[ir.Instruction]:
    """The instruction, or one for each member of its family's enum."""
    template, _parameters, variable, _in, enum_name, *_ = item.tree.children
    if variable is None:
        yield _Builder(env, functions, codes, item, report).build(str(template), None)
        return
    enum = env.named_type(str(enum_name), item.span(enum_name))
    if not isinstance(enum, ir.Enum):
        raise fail("family", f"'{enum_name}' is no enum", item.span(enum_name))
    if f"{{{variable}}}" not in str(template):
        raise fail("family", f"the name must contain {{{variable}}}", item.span(template))
    for member, value in enum.members:
        name = str(template).replace(f"{{{variable}}}", member)
        builder = _Builder(env, functions, codes, item, report)
        yield builder.build(name, (str(variable), ir.Literal(enum, value)))


class _Builder:
    """Builds one instruction of an item."""

    def __init__(
        self,
        env: Environment,
        functions: FunctionTable,
        codes: dict[str, ir.OperandCode],
        item: Item,
        report: Report,
    ) -> None:
        self.env = env
        self.functions = functions
        self.codes = codes
        self.item = item
        self.report = report
        _, parameters, _, _, _, encoding, syntax, *statements = item.tree.children
        self.parameters = parameter_nodes(parameters)
        self.row_nodes: list[Node] = encoding.children
        self.syntax = (
            None if syntax is None else str(syntax).removeprefix("syntax").partition("//")[0].strip()
        )
        self.body_nodes: list[Node] = statements

    def build(self, name: str, member: tuple[str, ir.Literal] | None) -> ir.Instruction:
        place = self.item.span(self.item.tree)
        rows = self._rows(None if member is None else (member[0], member[1].value))
        bodies: dict[Widths, ir.InstructionBody] = {}
        for row in rows:
            for widths in width_tuples(row, self.codes):
                if widths not in bodies:
                    bodies[widths] = self._body(name, member, row, widths)
        self._check_writes(rows, bodies)
        return ir.Instruction(
            span=place,
            doc=self.item.doc,
            name=name,
            family=None if member is None else str(self.item.tree.children[0]),
            syntax=self._syntax(member),
            operands=tuple(str(p.children[0]) for p in self.parameters),
            rows=tuple(rows),
            bodies=tuple(bodies.values()),
        )

    def _syntax(self, member: tuple[str, ir.Literal] | None) -> str | None:
        if self.syntax is None or member is None:
            return self.syntax
        return self.syntax.replace(f"{{{member[0]}}}", _member(member).lower())

    def _rows(self, family: tuple[str, int] | None) -> list[ir.EncodingRow]:
        rows = []
        for node in self.row_nodes:
            try:
                row = encoding_row(self.item, node, family)
                check_operands(row, self.codes, len(self.parameters), self.item.span(self.item.tree))
                rows.append(row)
            except CheckError as error:
                self.report(error)
        return rows

    def _body(
        self, name: str, member: tuple[str, ir.Literal] | None, row: ir.EncodingRow, widths: Widths
    ) -> ir.InstructionBody:
        scope = Scope(in_instruction=True)
        if member is not None:
            scope.literals[member[0]] = member[1]
        for parameter, width in zip(self.parameters, widths, strict=True):
            self._bind(scope, parameter, width, row)
        checker = StatementChecker(self.env, self.functions, self.item, scope, self.report)
        body = checker.statements(self.body_nodes)
        uses = tuple(ir.OperandUse(n, o.width, o.reads, o.writes) for n, o in scope.operands.items())
        return ir.InstructionBody(_body_name(name, widths), widths, uses, tuple(body))

    def _bind(self, scope: Scope, parameter: Node, width: int | None, row: ir.EncodingRow) -> None:
        """Gives the operand its width, and finds the width parameter in `bits(N)`."""
        name, type_ = parameter.children
        place = self.item.span(parameter)
        if type_ is None:
            scope.operands[str(name)] = OperandName(None, place)
            return
        if type_.data == "bits_type" and type_.children[0].data == "name":
            variable = str(type_.children[0].children[0])
            if variable not in scope.integers and width is not None:
                scope.integers[variable] = width
        declared = width_of(self.env.type(self.item, type_, scope.integers))
        if declared != width:
            found = "no value" if width is None else f"{width} bits"
            raise fail(
                "width",
                f"the row gives '{name}' {found}, not {declared} bits",
                row.span,
                [(place, "declared here")],
            )
        scope.operands[str(name)] = OperandName(width, place)

    def _check_writes(self, rows: list[ir.EncodingRow], bodies: dict[Widths, ir.InstructionBody]) -> None:
        written = {u.name for b in bodies.values() for u in b.operands if u.writes}
        for row in rows:
            for parameter, code in zip(self.parameters, row.operands, strict=True):
                if str(parameter.children[0]) in written and self.codes[code].kind in READ_ONLY_KINDS:
                    place = self.item.span(parameter)
                    self.report(
                        fail(
                            "operand",
                            f"'{parameter.children[0]}' is written, but {code} cannot be",
                            row.span,
                            [(place, "the operand")],
                        )
                    )


def _member(member: tuple[str, ir.Literal]) -> str:
    enum = member[1].type
    assert isinstance(enum, ir.Enum)
    return next(n for n, v in enum.members if v == member[1].value)


def _body_name(name: str, widths: Widths) -> str:
    """`ADD_32` where all widths agree, else `MOVZX_32_8`."""
    known = [str(w) for w in widths if w is not None]
    return "_".join([name, *(known[:1] if len(set(known)) == 1 else known)])
