"""Reads z3's terms by z3's C functions: its Python layer makes several objects and calls for each node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import z3
from z3 import z3core

from checks.symbolic.nodes import direct

_kind_of_ast = direct(z3core.Z3_get_ast_kind)
_declaration = direct(z3core.Z3_get_app_decl)
_kind_of_declaration = direct(z3core.Z3_get_decl_kind)
_parameter = direct(z3core.Z3_get_decl_int_parameter)
_count = direct(z3core.Z3_get_app_num_args)
_argument = direct(z3core.Z3_get_app_arg)
_sort = direct(z3core.Z3_get_sort)
_width = direct(z3core.Z3_get_bv_sort_size)


@dataclass(frozen=True, slots=True)
class Node:
    """A term: its kind of operator (`z3.Z3_OP_…`), and the terms below it."""

    reader: Reader
    ast: Any
    kind: int
    declaration: Any
    below: list[Any]

    def width(self) -> int:
        """The width in bits of a vector."""
        return self.reader.width(self.ast)

    def width_below(self, number: int) -> int:
        """The width of one of the vectors below."""
        return self.reader.width(self.below[number])

    def parameter(self, number: int) -> int:
        """A number that is part of the operator, such as a bit of `extract`."""
        return int(_parameter(self.reader.ref, self.declaration, number))

    def number(self) -> int:
        """The value of a numeral."""
        return int(z3core.Z3_get_numeral_string(self.reader.ref, self.ast))

    def name(self) -> str:
        """The name of a constant or function."""
        symbol = z3core.Z3_get_decl_name(self.reader.ref, self.declaration)
        return str(z3core.Z3_get_symbol_string(self.reader.ref, symbol))


class Reader:
    """Reads the terms of one context."""

    def __init__(self, context: z3.Context) -> None:
        self.context = context
        self.ref = context.ref()
        self._kinds: dict[int, int] = {}

    def node(self, ast: Any) -> Node:
        """A term."""
        ref = self.ref
        if _kind_of_ast(ref, ast) == z3.Z3_NUMERAL_AST:
            return Node(self, ast, z3.Z3_OP_BNUM, None, [])
        declaration = _declaration(ref, ast)
        kind = self._kinds.get(declaration.value)
        if kind is None:
            kind = self._kinds[declaration.value] = _kind_of_declaration(ref, declaration)
        return Node(self, ast, kind, declaration, [_argument(ref, ast, i) for i in range(_count(ref, ast))])

    def width(self, ast: Any) -> int:
        """The width in bits of a vector."""
        return int(_width(self.ref, _sort(self.ref, ast)))
