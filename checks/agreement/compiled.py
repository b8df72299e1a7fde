"""Turns Z3 terms into Python, so that they can be evaluated for many states.

Each term becomes one line of a function; bit vectors are non-negative ints, truth values are bools. Constants are
looked up by name in `c`, applications of uninterpreted functions are calls of what `f` has under their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import z3

from checks.symbolic.folding import signed

Evaluate = Callable[[Mapping[str, int], Mapping[str, Callable[..., int]]], tuple[int, ...]]
Line = Callable[[z3.ExprRef, list[str]], str]


def compiled(terms: Sequence[z3.ExprRef]) -> Evaluate:
    """A function from constants and functions to the values of the terms."""
    names: dict[int, str] = {}
    lines: list[str] = []
    for term in terms:
        _write(term, names, lines)
    results = ", ".join(names[term.get_id()] for term in terms)
    body = "\n ".join([*lines, f"return ({results},)"])
    namespace: dict[str, Any] = {"signed": signed}
    exec(f"def evaluate(c, f):\n {body}", namespace)  # the text is made of terms alone
    return namespace["evaluate"]  # type: ignore[no-any-return]


def _write(root: z3.ExprRef, names: dict[int, str], lines: list[str]) -> None:
    """A line for each term below the root that has none, arguments first."""
    pending = [root]
    while pending:
        term = pending[-1]
        if term.get_id() in names:
            pending.pop()
            continue
        missing = [child for child in term.children() if child.get_id() not in names]
        if missing:
            pending += missing
            continue
        pending.pop()
        name = names[term.get_id()] = f"t{len(names)}"
        lines.append(f"{name} = {_text(term, [names[child.get_id()] for child in term.children()])}")


def _text(term: z3.ExprRef, arguments: list[str]) -> str:
    kind = term.decl().kind()
    if kind == z3.Z3_OP_UNINTERPRETED:
        name = repr(term.decl().name())
        return f"f[{name}]({', '.join(arguments)})" if arguments else f"c[{name}]"
    if kind in _INFIX:
        return f" {_INFIX[kind]} ".join(arguments)
    if kind in _WRAPPING:
        return f"({f' {_WRAPPING[kind]} '.join(arguments)}) & {_ones(term)}"
    return _LINES[kind](term, arguments)


def _ones(term: z3.ExprRef) -> int:
    return (1 << _width(term)) - 1


def _width(term: z3.ExprRef) -> int:
    return int(term.sort().size())


def _extract(term: z3.ExprRef, a: list[str]) -> str:
    _, low = term.params()
    return f"{a[0]} >> {low} & {_ones(term)}"


def _concat(term: z3.ExprRef, a: list[str]) -> str:
    parts = zip(a[1:], term.children()[1:], strict=True)
    return reduce(lambda high, low: f"({high} << {_width(low[1])} | {low[0]})", parts, a[0])


def _sign_extended(term: z3.ExprRef, a: list[str]) -> str:
    return f"signed({a[0]}, {_width(term.arg(0))}) & {_ones(term)}"


def _signed(term: z3.ExprRef, a: list[str], op: str) -> str:
    width = _width(term.arg(0))
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
    z3.Z3_OP_BNUM: lambda term, _: str(term.as_long()),
    z3.Z3_OP_NOT: lambda _, a: f"not {a[0]}",
    z3.Z3_OP_IMPLIES: lambda _, a: f"not {a[0]} or {a[1]}",
    z3.Z3_OP_ITE: lambda _, a: f"{a[1]} if {a[0]} else {a[2]}",
    z3.Z3_OP_BNOT: lambda term, a: f"{a[0]} ^ {_ones(term)}",
    z3.Z3_OP_BNEG: lambda term, a: f"-{a[0]} & {_ones(term)}",
    z3.Z3_OP_BUDIV: lambda term, a: f"{a[0]} // {a[1]} if {a[1]} else {_ones(term)}",
    z3.Z3_OP_BUREM: lambda _, a: f"{a[0]} % {a[1]} if {a[1]} else {a[0]}",
    z3.Z3_OP_BSHL: lambda t, a: f"{a[0]} << {a[1]} & {_ones(t)} if {a[1]} < {_width(t)} else 0",
    z3.Z3_OP_BLSHR: lambda t, a: f"{a[0]} >> {a[1]} if {a[1]} < {_width(t)} else 0",
    z3.Z3_OP_BASHR: lambda t, a: f"signed({a[0]}, {_width(t)}) >> min({a[1]}, {_width(t)}) & {_ones(t)}",
    z3.Z3_OP_EXTRACT: _extract,
    z3.Z3_OP_CONCAT: _concat,
    z3.Z3_OP_ZERO_EXT: lambda _, a: a[0],
    z3.Z3_OP_SIGN_EXT: _sign_extended,
    z3.Z3_OP_SLT: lambda term, a: _signed(term, a, "<"),
    z3.Z3_OP_SLEQ: lambda term, a: _signed(term, a, "<="),
    z3.Z3_OP_SGT: lambda term, a: _signed(term, a, ">"),
    z3.Z3_OP_SGEQ: lambda term, a: _signed(term, a, ">="),
}
