"""A program as the text of one Python module."""

from __future__ import annotations

from collections.abc import Iterable

from grammar import ir
from grammar.source import Span
from refmodel.generate import names, state
from refmodel.generate.bounds import ones
from refmodel.generate.clauses import Clauses
from refmodel.generate.code import docstring, fold, indented, number
from refmodel.generate.expressions import Expressions
from refmodel.generate.statements import Statements

HEADER = '''"""The reference model, generated from the specification.

Do not edit: change the specification, or refmodel/generate.  Every function takes the machine `m` first; vectors
are non-negative ints below 2**width; faults and VM exits are exceptions.
"""

from typing import NamedTuple

from refmodel.runtime import Abort, IndexedState, Processor, Remembered, divide, remainder, shift_left
'''


class ModuleWriter:
    """Writes the parts of the module, in the order in which they stand; `part` is what is written of the program."""

    def __init__(self, program: ir.Program, *, covered: bool = False, part: ir.Program | None = None) -> None:
        self._program = program
        self._part = program if part is None else part
        self._clauses = Clauses() if covered else None
        self._names = names.Names(program)
        self._masks: set[int] = set()
        self._instances: dict[str, list[str]] = {}
        for function in program.functions.values():
            if function.cached:
                self._instances.setdefault(function.source, []).append(function.name)

    def text(self) -> str:
        """The whole module."""
        code = [*self._code(), *self._views(), *self._tables()]
        lines = [
            HEADER,
            *(self._clauses.text() if self._clauses is not None else []),
            *self._mask_constants(),
            *self._constants(),
            *state.structs(self._program, self._names),
            *state.aborts(self._program),
            *state.vmcs(self._program),
            *state.machine(self._program),
            *code,
        ]
        return "\n".join(lines) + "\n"

    def definitions(self) -> str:
        """Functions, predicates and bodies of instructions alone, with the constants that they may need."""
        code = self._code()
        return "\n".join([*self._mask_constants(), *code]) + "\n"

    def _code(self) -> list[str]:
        return [*self._functions(), *self._predicates(), *self._bodies()]

    # --- constants --------------------------------------------------------------------------------

    def _mask_constants(self) -> list[str]:
        return [f"{names.mask_name(width)} = {number(ones(width)).text}" for width in sorted(self._masks)]

    def _constants(self) -> list[str]:
        lines = []
        for type_ in self._program.types.values():
            if isinstance(type_, ir.Enum):
                pairs = [(names.enum_constant(type_, name), value) for name, value in type_.members]
            elif isinstance(type_, ir.Bitfield):
                pairs = [
                    (names.field_mask(type_, m.name), ones(m.high - m.low + 1) << m.low)
                    for m in type_.members
                ]
            else:
                continue
            lines += ["", f"# {type_.name}", *(f"{name} = {number(value).text}" for name, value in pairs)]
        return lines

    # --- functions --------------------------------------------------------------------------------

    def _writers(self, updated: frozenset[str] = frozenset()) -> tuple[Expressions, Statements]:
        expressions = Expressions(self._program, self._names, self._masks, updated)
        statements = Statements(self._program, expressions, self._names, self._instances)
        statements.clauses = self._clauses
        return expressions, statements

    def _functions(self) -> list[str]:
        return [line for f in self._part.functions.values() for line in self._function(f)]

    def _function(self, function: ir.Function) -> list[str]:
        _, statements = self._writers()
        name = self._names.function(function.name)
        doc = docstring(function.doc, place(function.span))
        body = statements.block(function.body)
        if not function.cached:
            return self._definition(name, function.parameters, function.result, [*doc, *body])
        inner = f"{name}_uncached"
        return [
            *self._definition(name, function.parameters, function.result, [*doc, *self._cached(function)]),
            *self._definition(inner, function.parameters, function.result, body),
        ]

    def _cached(self, function: ir.Function) -> list[str]:
        """Looks the keys up, and remembers the result of the first time."""
        arguments = [self._names.local(p.name) for p in function.parameters]
        expressions, _ = self._writers()
        keys = [expressions.value(key).text for key in function.keys]
        key = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
        cache = f"{names.MACHINE}.{names.cache_attribute(function.name)}"
        inner = f"{self._names.function(function.name)}_uncached"
        return [
            f"key = {key}",
            f"known = {cache}.get(key)",
            "if known is None:",
            f"    known = {cache}[key] = {inner}({', '.join([names.MACHINE, *arguments])})",
            "return known",
        ]

    def _definition(
        self, name: str, parameters: Iterable[ir.Parameter], result: ir.Type | None, body: list[str]
    ) -> list[str]:
        typed = (f"{self._names.local(p.name)}: {names.annotation(p.type)}" for p in parameters)
        signature = f"def {name}({', '.join([names.MACHINE, *typed])}) -> {names.annotation(result)}:"
        return ["", "", *fold(signature), *indented(body)]

    # --- conditions -------------------------------------------------------------------------------

    def _predicates(self) -> list[str]:
        """Policies, invariants and rules as functions."""
        lines = []
        for kind, table in (("policy", self._part.policies), ("invariant", self._part.invariants)):
            for predicate in table.values():
                lines += self._predicate(f"{kind}_{predicate.name}", predicate)
        for group in self._part.rules.values():
            for rule in group.rules:
                lines += self._predicate(f"rule_{group.name}_{rule.name}", rule)
            calls = [f"rule_{group.name}_{rule.name}({names.MACHINE})" for rule in group.rules]
            body = [
                *docstring(group.doc, place(group.span)),
                *fold(f"return ({' and '.join(calls) or True})"),
            ]
            lines += self._definition(f"holds_{group.name}", (), ir.BOOL, body)
        return lines

    def _predicate(self, name: str, predicate: ir.Predicate) -> list[str]:
        doc = docstring(predicate.doc, place(predicate.span))
        return self._returning(name, predicate.parameters, predicate.condition, doc)

    def _returning(
        self, name: str, parameters: tuple[ir.Parameter, ...], expression: ir.Expr, doc: list[str]
    ) -> list[str]:
        expressions, _ = self._writers()
        body = [*doc, *fold(f"return {expressions.value(expression).text}")]
        return self._definition(name, parameters, expression.type, body)

    def _views(self) -> list[str]:
        """What the guest sees of each state variable, and which part belongs to the VMM."""
        lines = []
        for variable in self._program.state.values():
            if variable.space == "ghost":
                continue
            for kind, expression in (
                ("view", variable.view),
                ("host", variable.host),
                ("owner", variable.owner),
            ):
                if expression is not None:
                    lines += self._returning(f"{kind}_{variable.name}", variable.indices, expression, [])
        return lines

    # --- instructions -----------------------------------------------------------------------------

    def _bodies(self) -> list[str]:
        return [
            line
            for instruction in self._part.instructions.values()
            for body in instruction.bodies
            for line in self._body(instruction, body)
        ]

    def _body(self, instruction: ir.Instruction, body: ir.InstructionBody) -> list[str]:
        updated = frozenset(use.name for use in body.operands if use.reads and use.writes)
        _, statements = self._writers(updated)
        operands = [names.MACHINE, *(self._names.local(name) for name in instruction.operands)]
        return [
            "",
            "",
            f"def {body_name(body)}({', '.join(operands)}) -> None:",
            *indented(docstring(instruction.doc, place(instruction.span))),
            *indented(statements.entry(instruction.span, instruction.name)),
            *indented(statements.block(body.body)),
        ]

    def _tables(self) -> list[str]:
        bodies = [b.name for i in self._program.instructions.values() for b in i.bodies]
        handlers = list(self._program.handlers.values())
        other = next((f"handle_{h.name}" for h in handlers if h.value is None), "None")
        functions = self._program.functions.values()
        return [
            "",
            "",
            "HANDLERS = {",
            *(f"    {h.value}: handle_{h.name}," for h in handlers if h.value is not None),
            "}",
            "",
            "",
            "def dispatch(m, reason: int) -> None:",
            '    """Runs the handler for a VM exit with this reason."""',
            f"    HANDLERS.get(reason, {other})(m)",
            "",
            "",
            "INSTRUCTIONS = {",
            *(f'    "{name}": execute_{name},' for name in bodies),
            "}",
            "",
            "# Functions without width parameters by their name in the specification.",
            "FUNCTIONS = {",
            *(f'    "{f.source}": {self._names.function(f.name)},' for f in functions if not f.widths),
            "}",
        ]


def place(span: Span) -> str:
    """Where something stands in the specification."""
    return f"{span.file}:{span.line}"


def body_name(body: ir.InstructionBody) -> str:
    """The name of the generated function of an instruction's body."""
    return f"execute_{body.name}"


def generate(program: ir.Program, *, covered: bool = False) -> str:
    """The text of the generated module; `covered`: it notes in HITS which of its CLAUSES were reached."""
    return ModuleWriter(program, covered=covered).text()


def definitions(program: ir.Program, part: ir.Program) -> str:
    """The functions, predicates and instructions of a part of the program alone, as its module has them."""
    return ModuleWriter(program, part=part).definitions()
