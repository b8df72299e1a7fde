"""Functions of the restricted Python → LLVM IR, as text.

Every function becomes one LLVM function on `i64`; locals live in stack slots that LLVM turns into registers.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from fastmodel.compiler import primitives
from fastmodel.compiler.convention import Convention
from fastmodel.compiler.expressions import ExpressionWriter, pinned_slot, quoted
from fastmodel.compiler.program import Instance, Names

# The kinds of memory for alias analysis: what expressions.py refers to by number; and intrinsics. Nothing we call needs
# a stack that is aligned to more than a word, and then routines that may call something need not align it.
PREAMBLE = """\
!llvm.module.flags = !{!7}
!7 = !{i32 1, !"override-stack-alignment", i32 8}
declare void @llvm.assume(i1)
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctlz.i64(i64, i1)
!0 = !{!"fast model"}
!1 = !{!4, !4, i64 0}
!2 = !{!5, !5, i64 0}
!3 = !{!6, !6, i64 0}
!4 = !{!"state", !0, i64 0}
!5 = !{!"guest memory", !0, i64 0}
!6 = !{!"decoded", !0, i64 0}
"""


class FunctionWriter(ExpressionWriter):
    """Writes one instance of a function."""

    def __init__(self, inside: Instance, names: Names, convention: Convention) -> None:
        super().__init__(inside, names, convention)
        self.is_routine = False
        self.loops: list[tuple[str, str]] = []  # where `continue` and `break` go

    # --- the parts of a function ---

    def write(self, name: str, *, routine: bool = False, exported: bool = False) -> str:
        """The definition of the function as LLVM IR."""
        parameters = self.source.parameters
        arguments = [f"i64 %{p}" for p in parameters]
        self.is_routine = routine
        if routine:
            self.pinned = self.convention.pinned
            arguments += [f"i64 {pinned_slot(offset)}.first" for offset in self.pinned]
            for offset in self.pinned:
                self.emit(f"{pinned_slot(offset)} = alloca i64")
                self.emit(f"store i64 {pinned_slot(offset)}.first, ptr {pinned_slot(offset)}")
        else:
            arguments += [f"ptr {pinned_slot(offset)}" for offset in self.pinned]
        for local in sorted(self.source.locals):
            self.emit(f"{self.slot(local)} = alloca i64")
        for parameter in parameters:
            self.emit(f"store i64 %{parameter}, ptr {self.slot(parameter)}")
        self.body(self.source.tree.body)
        if not self.ended:
            self.emit("unreachable")
        linkage = "" if exported or self.inside.is_exported else "internal "
        convention = (
            "" if exported else self.convention.routine if routine else self.convention.of(self.source)
        )
        attributes = "nounwind" if exported or routine else self.attributes
        declared = f"{self.result_type} @{quoted(name)}({', '.join(arguments)})"
        head = f"define {linkage}{convention} {declared} {attributes}"
        return "\n".join([f"{head} {{", *self.lines, "}", ""])

    @property
    def result_type(self) -> str:
        """The LLVM type of the function's result."""
        return "i1" if self.source.returns_bool else "i64"

    @property
    def attributes(self) -> str:
        """The LLVM attributes: only slow functions are called, all others become part of their callers."""
        return "nounwind noinline cold" if "slow" in self.source.marks else "nounwind alwaysinline"

    # --- statements ---

    def body(self, statements: list[ast.stmt]) -> None:
        """A list of statements; what follows a jump is not compiled."""
        for statement in statements:
            if self.ended:
                return
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        """One statement."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.assign(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.assign(name, value)
            case ast.AugAssign(target=ast.Name() as target, op=operator, value=value):
                combined = ast.BinOp(ast.Name(target.id, ast.Load()), operator, value)
                self.assign(target.id, ast.copy_location(combined, node))
            case ast.If():
                self.if_statement(node)
            case ast.While(test=test, body=body, orelse=[]):
                self.while_loop(test, body)
            case ast.Break() | ast.Continue() if self.loops:
                self.jump(self.loops[-1][isinstance(node, ast.Break)])
            case ast.Return(value=ast.expr() as value):
                self.return_statement(value)
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case _:
                raise self.error(node, f"statement {type(node).__name__} is outside the restricted Python")

    def assign(self, name: str, value: ast.expr) -> None:
        """Gives a local a value."""
        self.emit(f"store i64 {self.integer(value)}, ptr {self.slot(name)}")

    def if_statement(self, node: ast.If) -> None:
        """`if`, decided here if it can be."""
        decided = self.known(node.test)
        if decided is not None:
            self.body(node.body if decided else node.orelse)
            return
        condition = self.condition(node.test)
        then, otherwise, end = self.label(), self.label(), self.label()
        self.branch(condition, then, otherwise)
        ends = []
        for label, statements in ((then, node.body), (otherwise, node.orelse)):
            self.begin(label)
            self.body(statements)
            ends.append(self.ended)
            self.jump(end)
        if not all(ends):
            self.begin(end)

    def while_loop(self, test: ast.expr, body: list[ast.stmt]) -> None:
        """`while`."""
        again, inside, end = self.label(), self.label(), self.label()
        self.begin(again)
        if self.known(test):
            self.jump(inside)
        else:
            self.branch(self.condition(test), inside, end)
        self.begin(inside)
        self.loops.append((again, end))
        self.body(body)
        self.loops.pop()
        self.jump(again)
        self.begin(end)

    def return_statement(self, value: ast.expr) -> None:
        """`return`, or the tail call that `return proceed(…)` is."""
        if isinstance(value, ast.Call) and self.word(value) is primitives.proceed:
            if not self.convention.threaded:
                raise self.error(value, "proceed() needs threaded code")
            result = self.invocation("musttail call", value)
        else:
            result = self.condition(value) if self.source.returns_bool else self.integer(value)
            if self.is_routine:
                self.unpin()
        self.emit(f"ret {self.result_type} {result}")
        self.ended = True


def module_text(
    routines: Mapping[str, Instance], entries: dict[str, Instance], convention: Convention
) -> str:
    """A whole module: the routines, their addresses in the table `routines`, and the functions to be called."""
    names = Names()
    parts = [PREAMBLE]
    for name, inside in routines.items():
        parts.append(FunctionWriter(inside, names, convention).write(name, routine=True))
    for name, inside in entries.items():
        parts.append(FunctionWriter(inside, names, convention).write(name, exported=True))
    parts += [FunctionWriter(inside, names, convention).write(names.of(inside)) for inside in names.drain()]
    table = ", ".join(f"ptr @{quoted(name)}" for name in routines)
    parts.append(f"@routines = constant [{len(routines)} x ptr] [{table}]\n")
    return "\n".join(parts)
