"""Statements of the specification as LLVM instructions.

An abort is a number in the state block, looked at after each call that may raise; what it carries lies beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastmodel.reference.contents import Contents
from fastmodel.reference.expressions import ExpressionWriter
from fastmodel.reference.layout import MOST_ARGUMENTS
from fastmodel.reference.state import STATE
from fastmodel.reference.types import llvm_type
from grammar import ir
from refmodel.generate.bounds import width_of
from refmodel.generate.simplify import simplified


class StatementWriter(ExpressionWriter):
    """Writes the body of one function, whose result has the LLVM type `result`."""

    def __init__(
        self,
        module: Contents,
        result: str,
        operands: tuple[str, ...] = (),
        updated: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(module, operands, updated)
        self._result = result
        self._statements: dict[type, Callable[[Any], None]] = {
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

    def finish(self, statements: Iterable[ir.Stmt]) -> list[str]:
        """The lines of the whole function."""
        self.block(statements)
        if not self.ended:
            self.leave()
        self.begin("aborted")
        self.leave()
        return self.body()

    def block(self, statements: Iterable[ir.Stmt]) -> None:
        """Writes statements; those behind a return or raise are never reached."""
        for statement in statements:
            if not self.ended:
                self._statements[type(statement)](statement)

    def leave(self) -> None:
        """Returns from the function; the result is of no interest, since an abort is on its way."""
        self.end("ret void" if self._result == "void" else f"ret {self._result} zeroinitializer")

    def _call_statement(self, s: ir.CallStatement) -> None:
        self.of(s.call)

    def take(self, parameters: Iterable[ir.Parameter]) -> None:
        """Makes local variables of the function's arguments."""
        for number, parameter in enumerate(parameters):
            self.set_local(parameter.name, llvm_type(parameter.type), f"%argument.{number}")

    def set_local(self, name: str, type_: str, value: str) -> None:
        """Assigns a local variable."""
        self.emit(f"store {type_} {value}, ptr {self.slot(name, type_)}")

    def _set_local(self, s: ir.SetLocal) -> None:
        self.set_local(s.name, llvm_type(s.value.type), self.of(s.value))

    def _write_state(self, s: ir.WriteState) -> None:
        if self.module.program.state[s.name].space == "ghost":
            return
        indices = [self.typed(index) for index in s.indices]
        self.write_variable(s.name, indices, self.of(s.value))

    def _write_memory(self, s: ir.WriteMemory) -> None:
        width = width_of(s.value.type)
        self.module.memory_widths.add(width)
        address, value = self.typed(s.address), self.of(s.value)
        self.emit(f"call void @write_memory_{width}(ptr {STATE}, {address}, i{width} {value})")

    def _write_operand(self, s: ir.WriteOperand) -> None:
        width = width_of(s.value.type)
        value = self.of(s.value)
        function = self.module.operand_access("write", width)
        self.emit(f"call void {function}(ptr {STATE}, ptr {self.operand(s.name)}, i{width} {value})")
        self.leave_if_aborted()

    def _if(self, s: ir.If) -> None:
        condition = simplified(s.condition)
        if isinstance(condition, ir.Literal):
            self.block(s.then if condition.value else s.otherwise)
            return
        then, otherwise, end = self.label(), self.label(), self.label()
        self.branch(self.of(condition), then, otherwise)
        for label, part in ((then, s.then), (otherwise, s.otherwise)):
            self.begin(label)
            self.block(part)
            self.end(f"br label %{end}")
        self.begin(end)

    def _return(self, s: ir.Return) -> None:
        self.end("ret void" if s.value is None else f"ret {self.typed(s.value)}")

    def _raise(self, s: ir.Raise) -> None:
        layout = self.module.layout
        self.store_leaves(layout.aborts[s.kind], llvm_type(s.value.type), self.of(s.value))
        self.store_header("ABORT", str(self.module.abort_number(s.kind)))
        self.end(f"br label %{self.abort_label}")

    def _attempt(self, s: ir.Attempt) -> None:
        outer, caught, end = self.abort_label, self.label(), self.label()
        self.abort_label = caught
        self.block(s.body)
        self.end(f"br label %{end}")
        self.abort_label = outer
        self.begin(caught)
        for catch in s.catches:
            self._catch(catch, end)
        self.end(f"br label %{outer}")
        self.begin(end)

    def _catch(self, catch: ir.Catch, end: str) -> None:
        abort = self.load_header("ABORT")
        here, others = self.label(), self.label()
        number = self.module.abort_number(catch.kind)
        self.branch(self.value(f"icmp eq i64 {abort}, {number}"), here, others)
        self.begin(here)
        self.store_header("ABORT", "0")
        type_ = llvm_type(self.module.program.aborts[catch.kind].type)
        self.set_local(catch.name, type_, self.load_leaves(self.module.layout.aborts[catch.kind], type_))
        self.block(catch.body)
        self.end(f"br label %{end}")
        self.begin(others)

    def _forget(self, s: ir.Forget) -> None:
        names = self.module.cached_instances(s.function)
        if s.keys or not names:  # only the VMM and its devices forget a part
            self.leave_to_python()
        for name in names:
            self.emit(f"call void @forget_{name}(ptr {STATE})")

    def _execute(self, _: ir.Execute) -> None:
        self.emit(f"call void @execute(ptr {STATE})")
        self.leave_if_aborted()

    def _dispatch(self, s: ir.Dispatch) -> None:
        reason = self.widened(self.typed(s.reason))
        self.emit(f"call void @dispatch(ptr {STATE}, i64 {reason})")
        self.leave_if_aborted()

    def _output(self, s: ir.Output) -> None:
        if not self.module.purpose.outputs:
            self.leave_to_python()
            return
        values = [f"i64 {self.widened(self.typed(argument))}" for argument in s.arguments]
        if s.name == "vmptrld":
            self.emit(f"call void @vmptrld(ptr {STATE}, {values[0]})")
        values += ["i64 0"] * (MOST_ARGUMENTS - len(values))
        number = list(self.module.program.outputs).index(s.name)
        self.emit(f"call void @tell(ptr {STATE}, i64 {number}, {', '.join(values)})")

    def leave_to_python(self) -> None:
        """For what reaches beyond the processor."""
        self.store_header("OUTSIDE", "1")
