"""Runs a text as plain Python: the operators that can leave 64 bits are wrapped, everything else stays as written."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from fastmodel.compiler.primitives import wrap
from fastmodel.compiler.program import WORDS, Instance, fold

# Operators whose results may not fit; `& | ^ ~ >>` of 64-bit integers always do.
WRAPPING = (ast.Add, ast.Sub, ast.Mult, ast.LShift)
SHIFTS = (ast.LShift, ast.RShift)


class _Wrapper(ast.NodeTransformer):
    """Puts calls of `wrap` around operators, and numbers in place of parameters."""

    def __init__(self, inside: Instance) -> None:
        self.inside = inside

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr):
            known = fold(node, self.inside)
            if known is not None:
                return ast.copy_location(ast.Constant(known), node)
        if isinstance(node, ast.If) and isinstance(known := fold(node.test, self.inside), int):
            taken = [self.visit(s) for s in (node.body if known else node.orelse)]
            return taken or ast.copy_location(ast.Pass(), node)
        return super().visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Shift amounts count modulo 64; results wrap."""
        self.generic_visit(node)
        if isinstance(node.op, SHIFTS):
            node.right = ast.copy_location(ast.BinOp(node.right, ast.BitAnd(), ast.Constant(63)), node)
        return self.wrapped(node) if isinstance(node.op, WRAPPING) else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """-(-2**63) does not fit."""
        self.generic_visit(node)
        return self.wrapped(node) if isinstance(node.op, ast.USub) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """`x += y` as `x = x + y`."""
        assert isinstance(node.target, ast.Name)
        value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return self.visit(ast.copy_location(ast.Assign([node.target], ast.copy_location(value, node)), node))

    @staticmethod
    def wrapped(node: ast.expr) -> ast.expr:
        """`wrap(node)`."""
        return ast.copy_location(ast.Call(ast.Name("wrap", ast.Load()), [node], []), node)


class PlainProgram:
    """Instances as Python functions.

    `words` replaces words of the vocabulary, or functions of a text, by name: an engine supplies `invoke` here. With
    all words replaced, and `wrap` too, a text runs on other values than integers.
    """

    def __init__(self, words: dict[str, Callable[..., Any]]) -> None:
        self._words = words
        self._functions: dict[Instance, Callable[..., Any]] = {}

    def function(self, inside: Instance) -> Callable[..., Any]:
        """The Python function of an instance."""
        known = self._functions.get(inside)
        if known is None:
            known = self._functions[inside] = self._make(inside)
        return known

    def _make(self, inside: Instance) -> Callable[..., Any]:
        names: dict[str, Any] = {"wrap": self._words.get("wrap", wrap)}
        source = inside.source
        for name in source.free:
            value = inside.resolve(name)
            if isinstance(value, FunctionType):
                names[name] = self._meaning(inside, value)
        exec(_code(inside), names)  # the text of this package
        function: Callable[..., Any] = names[source.tree.name]
        return function

    def _meaning(self, inside: Instance, value: FunctionType) -> Callable[..., Any]:
        """What a function that is named in a text is here."""
        if value.__name__ in self._words:
            return self._words[value.__name__]
        return value if value in WORDS else self.function(inside.callee(value))


def _code(inside: Instance) -> CodeType:
    """The byte code of a wrapped function."""
    tree: ast.FunctionDef = pickle.loads(pickle.dumps(inside.source.tree))  # a copy, faster than deepcopy
    tree.decorator_list = []
    tree.returns = None
    for argument in tree.args.args:
        argument.annotation = None
    tree.body = [s for part in tree.body for s in _listed(_Wrapper(inside).visit(part))]
    module = ast.fix_missing_locations(ast.Module([tree], []))
    return compile(module, inside.source.file, "exec")


def _listed(result: ast.stmt | list[ast.stmt] | None) -> list[ast.stmt]:
    if result is None:
        return []
    return result if isinstance(result, list) else [result]
