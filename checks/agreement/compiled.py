"""Turns Z3 terms into Python, so that they can be evaluated for many states.

Each term becomes one line of a function; bit vectors are non-negative ints, truth values are bools. Constants are
looked up by name in `c`, applications of uninterpreted functions are calls of what `f` has under their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import z3

from checks.agreement.nodes import Node, Reader
from checks.symbolic.folding import signed

Evaluate = Callable[[Mapping[str, int], Mapping[str, Callable[..., int]]], tuple[int, ...]]
Line = Callable[[Node, list[str]], str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """`evaluate` gives the values of terms; `constants` and `functions` are the names that it looks up."""

    evaluate: Evaluate
    constants: frozenset[str]
    functions: frozenset[str]


def compiled(terms: Sequence[z3.ExprRef]) -> Compiled:
    """A function from constants and functions to the values of the terms, at least one."""
    text = _Text(Reader(terms[0].ctx))
    results = ", ".join([text.name(term.ast) for term in terms])
    body = "\n ".join([*text.lines, f"return ({results},)"])
    namespace: dict[str, Any] = {"signed": signed}
    exec(f"def evaluate(c, f):\n {body}", namespace)  # the text is made of terms alone
    return Compiled(namespace["evaluate"], frozenset(text.constants), frozenset(text.functions))


@dataclass(slots=True)
class _Text:
    """The lines so far; `names` has the name of each term's value by the term's address."""

    reader: Reader
    names: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)

    def name(self, root: Any) -> str:
        """The name of a term's value, after a line for each term below it that has none, arguments first."""
        names, pending = self.names, [root]
        while pending:
            ast = pending[-1]
            if ast.value in names:
                pending.pop()
                continue
            node = self.reader.node(ast)
            missing = [below for below in node.below if below.value not in names]
            if missing:
                pending += missing
                continue
            pending.pop()
            self._add(node)
        return names[root.value]

    def _add(self, node: Node) -> None:
        arguments = [self.names[below.value] for below in node.below]
        if node.kind == z3.Z3_OP_BNUM:
            self.names[node.ast.value] = str(node.number())
            return
        name = self.names[node.ast.value] = f"t{len(self.names)}"
        self.lines.append(f"{name} = {self._text(node, arguments)}")

    def _text(self, node: Node, arguments: list[str]) -> str:
        kind = node.kind
        if kind == z3.Z3_OP_UNINTERPRETED:
            return self._looked_up(node, arguments)
        if kind in _INFIX:
            return f" {_INFIX[kind]} ".join(arguments)
        if kind in _WRAPPING:
            return f"({f' {_WRAPPING[kind]} '.join(arguments)}) & {_ones(node)}"
        return _LINES[kind](node, arguments)

    def _looked_up(self, node: Node, arguments: list[str]) -> str:
        name = node.name()
        (self.functions if arguments else self.constants).add(name)
        return f"f[{name!r}]({', '.join(arguments)})" if arguments else f"c[{name!r}]"


def _ones(node: Node) -> int:
    return (1 << node.width()) - 1


def _extract(node: Node, a: list[str]) -> str:
    return f"{a[0]} >> {node.parameter(1)} & {_ones(node)}"


def _concat(node: Node, a: list[str]) -> str:
    widths = [node.width_below(number) for number in range(len(a))]
    return reduce(
        lambda high, low: f"({high} << {low[1]} | {low[0]})", zip(a[1:], widths[1:], strict=True), a[0]
    )


def _sign_extended(node: Node, a: list[str]) -> str:
    return f"signed({a[0]}, {node.width_below(0)}) & {_ones(node)}"


def _signed(node: Node, a: list[str], op: str) -> str:
    width = node.width_below(0)
    return f"signed({a[0]}, {width}) {op} signed({a[1]}, {width})"


_INFIX = {
    z3.Z3_OP_AND: "and", z3.Z3_OP_OR: "or", z3.Z3_OP_EQ: "==", z3.Z3_OP_IFF: "==", z3.Z3_OP_XOR: "!=",
    z3.Z3_OP_BAND: "&", z3.Z3_OP_BOR: "|", z3.Z3_OP_BXOR: "^",
    z3.Z3_OP_ULT: "<", z3.Z3_OP_ULEQ: "<=", z3.Z3_OP_UGT: ">", z3.Z3_OP_UGEQ: ">=",
}  # fmt: skip
_WRAPPING = {z3.Z3_OP_BADD: "+", z3.Z3_OP_BSUB: "-", z3.Z3_OP_BMUL: "*"}
_LINES: dict[int, Line] = {
    z3.Z3_OP_TRUE: lambda _, a: "True",  # noqa: ARG005
    z3.Z3_OP_FALSE: lambda _, a: "False",  # noqa: ARG005
    z3.Z3_OP_NOT: lambda _, a: f"not {a[0]}",
    z3.Z3_OP_IMPLIES: lambda _, a: f"not {a[0]} or {a[1]}",
    z3.Z3_OP_ITE: lambda _, a: f"{a[1]} if {a[0]} else {a[2]}",
    z3.Z3_OP_BNOT: lambda n, a: f"{a[0]} ^ {_ones(n)}",
    z3.Z3_OP_BNEG: lambda n, a: f"-{a[0]} & {_ones(n)}",
    z3.Z3_OP_BUDIV: lambda n, a: f"{a[0]} // {a[1]} if {a[1]} else {_ones(n)}",
    z3.Z3_OP_BUREM: lambda _, a: f"{a[0]} % {a[1]} if {a[1]} else {a[0]}",
    z3.Z3_OP_BSHL: lambda n, a: f"{a[0]} << {a[1]} & {_ones(n)} if {a[1]} < {n.width()} else 0",
    z3.Z3_OP_BLSHR: lambda n, a: f"{a[0]} >> {a[1]} if {a[1]} < {n.width()} else 0",
    z3.Z3_OP_BASHR: lambda n, a: f"signed({a[0]}, {n.width()}) >> min({a[1]}, {n.width()}) & {_ones(n)}",
    z3.Z3_OP_EXTRACT: _extract,
    z3.Z3_OP_CONCAT: _concat,
    z3.Z3_OP_ZERO_EXT: lambda _, a: a[0],
    z3.Z3_OP_SIGN_EXT: _sign_extended,
    z3.Z3_OP_SLT: lambda n, a: _signed(n, a, "<"),
    z3.Z3_OP_SLEQ: lambda n, a: _signed(n, a, "<="),
    z3.Z3_OP_SGT: lambda n, a: _signed(n, a, ">"),
    z3.Z3_OP_SGEQ: lambda n, a: _signed(n, a, ">="),
}
