"""Nodes of z3's terms, made by z3's C functions, and each of them once.

Building terms is half of a proof run, and most of that would be spent in z3's Python layer: for each node it asks by
further calls whether there was an error, and counts references. Here the nodes that were made together live as long as
any of them, and one that was made before is found in a dictionary. To z3's Python layer they are expressions like any
other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import z3
from z3 import z3core


def direct(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """The C function itself behind one of z3core's, which asks after each call whether it failed."""
    function: Callable[..., Any] = getattr((wrapper.__defaults__ or (None,))[-1], "f", wrapper)
    return function


_MAKERS = {
    name: direct(getattr(z3core, f"Z3_mk_{name}"))
    for name in (
        *(
            "bvadd",
            "bvsub",
            "bvmul",
            "bvudiv",
            "bvurem",
            "bvand",
            "bvor",
            "bvxor",
            "bvshl",
            "bvlshr",
            "bvashr",
        ),
        *("bvult", "bvule", "bvugt", "bvuge", "bvslt", "bvsle", "bvsgt", "bvsge", "bvnot", "bvneg"),
        *("extract", "zero_ext", "sign_ext", "concat", "ite", "eq", "not", "xor", "and", "or"),
    )
}

_push = direct(z3core.Z3_ast_vector_push)
_make_application = direct(z3core.Z3_mk_app)


class VectorNode(z3.BitVecRef):  # type: ignore[misc]
    """A bit vector; `kept` keeps it alive."""

    def __init__(self, ast: Any, context: z3.Context, kept: z3.AstVector, width: int) -> None:
        self.ast = ast
        self.ctx = context
        self._kept = kept
        self._width = width

    def __del__(self) -> None:
        """Nothing: no reference of its own is counted."""

    def size(self) -> int:
        """The width in bits."""
        return self._width


class NumeralNode(VectorNode, z3.BitVecNumRef):  # type: ignore[misc]
    """A vector that is a constant."""


class TruthNode(z3.BoolRef):  # type: ignore[misc]
    """A truth value; `kept` keeps it alive."""

    def __init__(self, ast: Any, context: z3.Context, kept: z3.AstVector) -> None:
        self.ast = ast
        self.ctx = context
        self._kept = kept

    def __del__(self) -> None:
        """Nothing: no reference of its own is counted."""


class Nodes:
    """The nodes of one context.

    A key is what a node is made of: operator, numbers, and the addresses of the nodes below, which live as long as it.
    """

    def __init__(self, context: z3.Context) -> None:
        self.context = context
        self._ref = context.ref()
        self._all = z3.AstVector(ctx=context)  # counts a reference to each, and frees them at once
        self._vectors: dict[tuple[Any, ...], VectorNode] = {}
        self._truths: dict[tuple[Any, ...], TruthNode] = {}
        self._sorts: dict[int, z3.SortRef] = {}
        self._functions: dict[tuple[str, tuple[int, ...], int], z3.FuncDeclRef] = {}
        self._results: dict[int, int] = {}

    def vector(
        self, operator: str, width: int, *below: z3.ExprRef, numbers: tuple[int, ...] = ()
    ) -> VectorNode:
        """The vector that an operator of z3 makes of numbers and nodes."""
        at = (operator, numbers, *[one.ast.value for one in below])
        node = self._vectors.get(at)
        if node is None:
            ast = _MAKERS[operator](self._ref, *numbers, *[one.ast for one in below])
            node = self._vectors[at] = VectorNode(self._kept(ast), self.context, self._all, width)
        return node

    def truth(self, operator: str, *below: z3.ExprRef) -> TruthNode:
        """The truth value that an operator makes of nodes."""
        at = (operator, *[one.ast.value for one in below])
        node = self._truths.get(at)
        if node is None:
            ast = _MAKERS[operator](self._ref, *[one.ast for one in below])
            node = self._truths[at] = TruthNode(self._kept(ast), self.context, self._all)
        return node

    def junction(self, operator: str, below: Sequence[z3.ExprRef]) -> TruthNode:
        """The truth value that an operator makes of any number of nodes."""
        at = (operator, *[one.ast.value for one in below])
        node = self._truths.get(at)
        if node is None:
            ast = _MAKERS[operator](self._ref, len(below), _array(below))
            node = self._truths[at] = TruthNode(self._kept(ast), self.context, self._all)
        return node

    def numeral(self, value: int, width: int) -> VectorNode:
        """A constant."""
        at = (value, width)
        node = self._vectors.get(at)
        if node is None:
            ast = z3core.Z3_mk_numeral(self._ref, str(value), self.sort(width).ast)
            node = self._vectors[at] = NumeralNode(self._kept(ast), self.context, self._all, width)
        return node

    def symbol(self, name: str, width: int) -> VectorNode | TruthNode:
        """An unknown of some width; a width of 0 stands for truth values."""
        return self.application(self.function(name, (), width), ())

    def function(self, name: str, widths: tuple[int, ...], result: int) -> z3.FuncDeclRef:
        """An unknown function; a width of 0 stands for truth values."""
        at = (name, widths, result)
        found = self._functions.get(at)
        if found is None:
            sorts = [self.sort(width).ast for width in widths]
            array = (z3core.Sort * len(sorts))(*sorts)
            symbol = z3core.Z3_mk_string_symbol(self._ref, name)
            decl = z3core.Z3_mk_func_decl(self._ref, symbol, len(sorts), array, self.sort(result).ast)
            found = self._functions[at] = z3.FuncDeclRef(decl, self.context)
            self._results[found.ast.value] = result
        return found

    def application(
        self, function: z3.FuncDeclRef, arguments: Sequence[z3.ExprRef]
    ) -> VectorNode | TruthNode:
        """The value of one of the functions made here."""
        at = (function.ast.value, *[one.ast.value for one in arguments])
        result = self._results[function.ast.value]
        node = self._vectors.get(at) if result else self._truths.get(at)
        if node is not None:
            return node
        ast = self._kept(_make_application(self._ref, function.ast, len(arguments), _array(arguments)))
        if result:
            node = self._vectors[at] = VectorNode(ast, self.context, self._all, result)
        else:
            node = self._truths[at] = TruthNode(ast, self.context, self._all)
        return node

    def sort(self, width: int) -> z3.SortRef:
        """The sort of vectors of some width, that of truth values for 0."""
        if width not in self._sorts:
            self._sorts[width] = z3.BitVecSort(width, self.context) if width else z3.BoolSort(self.context)
        return self._sorts[width]

    def _kept(self, ast: Any) -> Any:
        if not ast:
            error = z3core.Z3_get_error_code(self._ref)
            raise z3.Z3Exception(z3core.Z3_get_error_msg(self._ref, error))
        _push(self._ref, self._all.vector, ast)
        return ast


def _array(terms: Sequence[z3.ExprRef]) -> Any:
    return (z3core.Ast * len(terms))(*[one.ast for one in terms])
