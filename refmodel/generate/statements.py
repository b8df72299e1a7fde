"""Statements of the specification as lines of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grammar import ir
from grammar.source import Span
from refmodel.generate import names
from refmodel.generate.bounds import width_of
from refmodel.generate.clauses import OUTCOMES, Clauses
from refmodel.generate.code import fold, indented
from refmodel.generate.expressions import Expressions

_WRITE_SIZES = frozenset({8, 16, 32, 64})


class Statements:
    """Writes the body of one function or instruction; `instances` are those of each cached function.

    With `clauses`, the text notes which ways through it are taken.
    """

    clauses: Clauses | None = None

    def __init__(
        self,
        program: ir.Program,
        expressions: Expressions,
        identifiers: names.Names,
        instances: dict[str, list[str]],
    ) -> None:
        self._program = program
        self._expressions = expressions
        self._names = identifiers
        self._instances = instances
        self._writers: dict[type, Callable[..., list[str]]] = {
            ir.SetLocal: self._set_local,
            ir.WriteState: self._write_state,
            ir.WriteMemory: self._write_memory,
            ir.WriteOperand: self._write_operand,
            ir.CallStatement: self._call_statement,
            ir.If: self._if,
            ir.Return: self._return,
            ir.Raise: self._raise,
            ir.Attempt: self._attempt,
            ir.Forget: self._forget,
            ir.Execute: self._execute,
            ir.Dispatch: self._dispatch,
            ir.Output: self._output,
        }

    def block(self, statements: Iterable[ir.Stmt]) -> list[str]:
        """The lines of a block; `pass` if nothing is left of it."""
        lines = [line for statement in statements for line in self._statement(statement)]
        return lines or ["pass"]

    def entry(self, span: Span, name: str) -> list[str]:
        """What notes that an instruction is executed."""
        return [] if self.clauses is None else [self.clauses.mark(span, name, "executed")]

    def _statement(self, statement: ir.Stmt) -> list[str]:
        lines = self._writers[type(statement)](statement)
        return [piece for line in lines for piece in fold(line)]

    def _text(self, expression: ir.Expr) -> str:
        return self._expressions.value(expression).text

    def _set_local(self, s: ir.SetLocal) -> list[str]:
        return [f"{self._names.local(s.name)} = {self._text(s.value)}"]

    def _write_state(self, s: ir.WriteState) -> list[str]:
        variable = self._program.state[s.name]
        if variable.space == "ghost":
            return []
        return [f"{self._expressions.place(variable, s.indices)} = {self._text(s.value)}"]

    def _write_memory(self, s: ir.WriteMemory) -> list[str]:
        width = width_of(s.value.type)
        memory, address, value = f"{names.MACHINE}.{s.memory}", self._text(s.address), self._text(s.value)
        if width in _WRITE_SIZES:
            return [f"{memory}.write_{width}({address}, {value})"]
        return [f"{memory}.write({address}, {width // 8}, {value})"]

    def _write_operand(self, s: ir.WriteOperand) -> list[str]:
        return [f"{self._names.local(s.name)}.write({names.MACHINE}, {self._text(s.value)})"]

    def _call_statement(self, s: ir.CallStatement) -> list[str]:
        return [self._text(s.call)]

    def _if(self, s: ir.If) -> list[str]:
        if self.clauses is not None:
            return self._covered_if(s, self.clauses)
        lines = [f"if {self._expressions.condition(s.condition).text}:", *indented(self.block(s.then))]
        if len(s.otherwise) == 1 and isinstance(s.otherwise[0], ir.If):
            nested = self._if(s.otherwise[0])
            return [*lines, f"el{nested[0]}", *nested[1:]]
        if s.otherwise:
            return [*lines, "else:", *indented(self.block(s.otherwise))]
        return lines

    def _covered_if(self, s: ir.If, clauses: Clauses) -> list[str]:
        """Both ways are noted.  The condition of a `check` is the negation of what is checked."""
        ways = []
        for outcome, statements in zip(OUTCOMES[s.clause], (s.then, s.otherwise), strict=True):
            body = self.block(statements) if statements else []
            ways.append(indented([clauses.mark(s.span, s.clause, outcome), *body]))
        return [f"if {self._expressions.condition(s.condition).text}:", *ways[0], "else:", *ways[1]]

    def _return(self, s: ir.Return) -> list[str]:
        return ["return" if s.value is None else f"return {self._text(s.value)}"]

    def _raise(self, s: ir.Raise) -> list[str]:
        return [f"raise {names.abort_exception(s.kind)}({self._text(s.value)})"]

    def _attempt(self, s: ir.Attempt) -> list[str]:
        lines = ["try:", *indented(self.block(s.body))]
        for catch in s.catches:
            exception = f"{self._names.local(catch.name)}_raised"
            lines.append(f"except {names.abort_exception(catch.kind)} as {exception}:")
            lines.append(f"    {self._names.local(catch.name)} = {exception}.value")
            lines += indented(self.block(catch.body))
        return lines

    def _forget(self, s: ir.Forget) -> list[str]:
        instances = self._instances.get(s.function, [])
        return [self._forget_in(self._program.functions[instance], s.keys) for instance in instances]

    def _forget_in(self, function: ir.Function, first: tuple[ir.Expr, ...]) -> str:
        """Drops the results of a cached function whose keys begin with these."""
        cache = f"{names.MACHINE}.{names.cache_attribute(function.name)}"
        if not first:
            return f"{cache}.clear()"
        return f"{cache}.forget(({', '.join(self._text(key) for key in first)},))"

    def _execute(self, _: ir.Execute) -> list[str]:
        return [f"{names.MACHINE}.execute()"]

    def _dispatch(self, s: ir.Dispatch) -> list[str]:
        return [f"dispatch({names.MACHINE}, {self._text(s.reason)})"]

    def _output(self, s: ir.Output) -> list[str]:
        arguments = "".join(f", {self._text(a)}" for a in s.arguments)
        return [f'{names.MACHINE}.output("{s.name}"{arguments})']
