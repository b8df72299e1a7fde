"""Builds Z3 terms, folding what is constant.

A vector is a Python `int` where its value is known and a `BitVecRef` otherwise; a truth value is a `bool` or a
`BoolRef`. Folding here keeps concrete parts of a machine (operand kinds, mode, loop counters) out of the terms. The
builder calls `z3core` directly: the operators of z3's Python layer cost three times as much, and building is
half of a proof run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, TypeAlias, cast

import z3
from z3 import z3core

Vector: TypeAlias = int | z3.BitVecRef
Truth: TypeAlias = bool | z3.BoolRef

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": z3core.Z3_mk_bvadd,
    "-": z3core.Z3_mk_bvsub,
    "*": z3core.Z3_mk_bvmul,
    "/": z3core.Z3_mk_bvudiv,
    "%": z3core.Z3_mk_bvurem,
    "&": z3core.Z3_mk_bvand,
    "|": z3core.Z3_mk_bvor,
    "^": z3core.Z3_mk_bvxor,
    "<<": z3core.Z3_mk_bvshl,
    ">>": z3core.Z3_mk_bvlshr,
    ">>s": z3core.Z3_mk_bvashr,
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "<": z3core.Z3_mk_bvult,
    "<=": z3core.Z3_mk_bvule,
    ">": z3core.Z3_mk_bvugt,
    ">=": z3core.Z3_mk_bvuge,
    "<s": z3core.Z3_mk_bvslt,
    "<=s": z3core.Z3_mk_bvsle,
    ">s": z3core.Z3_mk_bvsgt,
    ">=s": z3core.Z3_mk_bvsge,
}


def signed(value: int, width: int) -> int:
    """`value`, `width` bits of two's complement, as a Python integer."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def _fold_arithmetic(op: str, a: int, b: int, width: int) -> int:
    """The value of an operator of `_ARITHMETIC`; division by zero as in SMT-LIB."""
    ones = (1 << width) - 1
    match op:
        case "+":
            return (a + b) & ones
        case "-":
            return (a - b) & ones
        case "*":
            return (a * b) & ones
        case "/":
            return a // b if b else ones
        case "%":
            return a % b if b else a
        case "&":
            return a & b
        case "|":
            return a | b
        case "^":
            return a ^ b
        case "<<":
            return (a << b) & ones if b < width else 0
        case ">>":
            return a >> b if b < width else 0
        case ">>s":
            return (signed(a, width) >> min(b, width - 1)) & ones
    raise ValueError(op)


def _fold_comparison(op: str, a: int, b: int, width: int) -> bool:
    if op.endswith("s"):
        a, b = signed(a, width), signed(b, width)
    match op.removesuffix("s"):
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
    raise ValueError(op)


class Terms:
    """A builder of terms in one z3 context."""

    def __init__(self, context: z3.Context) -> None:
        self.context = context
        self._ref = context.ref()
        self._numerals: dict[tuple[int, int], z3.BitVecRef] = {}
        self._true = z3.BoolVal(True, context)
        self._false = z3.BoolVal(False, context)

    # --- leaves ----------------------------------------------------------------------------------

    def vector(self, value: Vector, width: int) -> z3.BitVecRef:
        """`value` as a term."""
        if not isinstance(value, int):
            return value
        term = self._numerals.get((value, width))
        if term is None:
            term = self._numerals[value, width] = z3.BitVecVal(value, width, self.context)
        return term

    def truth(self, value: Truth) -> z3.BoolRef:
        """`value` as a term."""
        if isinstance(value, bool):
            return self._true if value else self._false
        return value

    def symbol(self, name: str, width: int) -> z3.BitVecRef:
        """A symbol of `width` bits."""
        return z3.BitVec(name, width, self.context)

    def bool_symbol(self, name: str) -> z3.BoolRef:
        """A symbol that is true or false."""
        return z3.Bool(name, self.context)

    def function(self, name: str, widths: Sequence[int], result: int) -> z3.FuncDeclRef:
        """An uninterpreted function of bit vectors; `result` is a width, or 0 for bool."""
        sorts = [z3.BitVecSort(width, self.context) for width in widths]
        sorts.append(z3.BitVecSort(result, self.context) if result else z3.BoolSort(self.context))
        return z3.Function(name, *sorts)

    def apply(self, function: z3.FuncDeclRef, arguments: Sequence[z3.ExprRef]) -> Any:
        """The function's value, a bit vector or a truth value."""
        array = (z3core.Ast * len(arguments))(*[argument.ast for argument in arguments])
        ast = z3core.Z3_mk_app(self._ref, function.ast, len(arguments), array)
        return self._truth(ast) if function.range().kind() == z3.Z3_BOOL_SORT else self._bits(ast)

    # --- vectors ---------------------------------------------------------------------------------

    def _bits(self, ast: Any) -> z3.BitVecRef:
        return z3.BitVecRef(ast, self.context)

    def arithmetic(self, op: str, a: Vector, b: Vector, width: int) -> Vector:
        """An operator of `_ARITHMETIC` on two vectors of one width."""
        if isinstance(a, int) and isinstance(b, int):
            return _fold_arithmetic(op, a, b, width)
        short = _neutral(op, a, b, width)
        if short is not None:
            return short
        left, right = self.vector(a, width), self.vector(b, width)
        if op == "-" and z3.is_app_of(left, z3.Z3_OP_BADD) and self.same(left.arg(0), right):
            return self._bits(left.arg(1).ast)  # the length of an instruction, from the address behind it
        return self._bits(_ARITHMETIC[op](self._ref, left.ast, right.ast))

    def shift(self, op: str, a: Vector, amount: Vector, width: int, amount_width: int) -> Vector:
        """Shifts where the amount may have another width than the value."""
        if isinstance(amount, int):
            return (
                self.arithmetic(op, a, amount, width) if amount < width else self._shifted_out(op, a, width)
            )
        if amount_width <= width:
            return self.arithmetic(op, a, self.extend(amount, amount_width, width, is_signed=False), width)
        fits = self.compare("<", amount, width, amount_width)
        inside = self.arithmetic(op, a, self.extract(amount, width - 1, 0), width)
        return self.choose(fits, inside, self._shifted_out(op, a, width), width)

    def _shifted_out(self, op: str, a: Vector, width: int) -> Vector:
        """The result of a shift by the width or more."""
        return self.arithmetic(op, a, width - 1, width) if op == ">>s" else 0

    def complement(self, a: Vector, width: int) -> Vector:
        """All bits inverted."""
        if isinstance(a, int):
            return a ^ ((1 << width) - 1)
        return self._bits(z3core.Z3_mk_bvnot(self._ref, a.ast))

    def negate(self, a: Vector, width: int) -> Vector:
        """The two's complement."""
        if isinstance(a, int):
            return -a & ((1 << width) - 1)
        return self._bits(z3core.Z3_mk_bvneg(self._ref, a.ast))

    def extract(self, a: Vector, high: int, low: int) -> Vector:
        """Bits `high` to `low`."""
        if isinstance(a, int):
            return a >> low & ((1 << (high - low + 1)) - 1)
        if low == 0 and high + 1 == a.size():
            return a
        return self._bits(z3core.Z3_mk_extract(self._ref, high, low, a.ast))

    def extend(self, a: Vector, width: int, new_width: int, *, is_signed: bool) -> Vector:
        """`a` (of `width` bits) widened to `new_width`."""
        if isinstance(a, int):
            return signed(a, width) & ((1 << new_width) - 1) if is_signed else a
        if new_width == width:
            return a
        make = z3core.Z3_mk_sign_ext if is_signed else z3core.Z3_mk_zero_ext
        return self._bits(make(self._ref, new_width - width, a.ast))

    def concat(self, parts: Sequence[tuple[Vector, int]]) -> Vector:
        """(value, width) pairs side by side, the high part first."""
        return reduce(self._join, parts)[0]

    def _join(self, high: tuple[Vector, int], low: tuple[Vector, int]) -> tuple[Vector, int]:
        (a, a_width), (b, b_width) = high, low
        if isinstance(a, int) and isinstance(b, int):
            return a << b_width | b, a_width + b_width
        left, right = self.vector(a, a_width), self.vector(b, b_width)
        return self._bits(z3core.Z3_mk_concat(self._ref, left.ast, right.ast)), a_width + b_width

    def choose(self, condition: Truth, a: Vector, b: Vector, width: int) -> Vector:
        """`a` if the condition holds, else `b`."""
        if isinstance(condition, bool):
            return a if condition else b
        if self.same(a, b):
            return a
        left, right = self.vector(a, width), self.vector(b, width)
        return self._bits(z3core.Z3_mk_ite(self._ref, condition.ast, left.ast, right.ast))

    # --- truth values ----------------------------------------------------------------------------

    def _truth(self, ast: Any) -> z3.BoolRef:
        return z3.BoolRef(ast, self.context)

    def same(self, a: object, b: object) -> bool:
        """Whether two values are the same term; if not they may still be equal."""
        if isinstance(a, z3.AstRef) and isinstance(b, z3.AstRef):
            return bool(z3core.Z3_is_eq_ast(self._ref, a.ast, b.ast))
        return type(a) is type(b) and not isinstance(a, z3.AstRef) and a == b

    def equal(self, a: Vector, b: Vector, width: int) -> Truth:
        """Whether two vectors are equal."""
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        left, right = self.vector(a, width), self.vector(b, width)
        if self.same(left, right):
            return True
        return self._truth(z3core.Z3_mk_eq(self._ref, left.ast, right.ast))

    def compare(self, op: str, a: Vector, b: Vector, width: int) -> Truth:
        """An ordering of `_COMPARISONS`."""
        if isinstance(a, int) and isinstance(b, int):
            return _fold_comparison(op, a, b, width)
        left, right = self.vector(a, width), self.vector(b, width)
        return self._truth(_COMPARISONS[op](self._ref, left.ast, right.ast))

    def negation(self, a: Truth) -> Truth:
        """Not `a`."""
        if isinstance(a, bool):
            return not a
        if z3.is_not(a):
            return self._truth(z3core.Z3_get_app_arg(self._ref, a.as_ast(), 0))
        return self._truth(z3core.Z3_mk_not(self._ref, a.ast))

    def conjunction(self, parts: Iterable[Truth]) -> Truth:
        """All of them; true if there are none."""
        return self._junction(parts, absorbing=False, make=z3core.Z3_mk_and)

    def disjunction(self, parts: Iterable[Truth]) -> Truth:
        """Any of them; false if there are none."""
        return self._junction(parts, absorbing=True, make=z3core.Z3_mk_or)

    def _junction(self, parts: Iterable[Truth], *, absorbing: bool, make: Callable[..., Any]) -> Truth:
        terms: list[z3.BoolRef] = []
        for part in parts:
            if isinstance(part, bool):
                if part is absorbing:
                    return absorbing
            elif not any(self.same(part, term) for term in terms):
                terms.append(part)
        if not terms:
            return not absorbing
        if len(terms) == 1:
            return terms[0]
        return self._truth(make(self._ref, len(terms), (z3core.Ast * len(terms))(*[t.ast for t in terms])))

    def implies(self, a: Truth, b: Truth) -> Truth:
        """a ⇒ b, which is true where b is among the conjuncts of a."""
        if not isinstance(a, bool) and not isinstance(b, bool):
            known = {conjunct.get_id() for conjunct in conjuncts(a)}
            if all(conjunct.get_id() in known for conjunct in conjuncts(b)):
                return True
        return self.disjunction((self.negation(a), b))

    def exclusive(self, a: Truth, b: Truth) -> Truth:
        """a ≠ b."""
        if isinstance(a, bool):
            return self.negation(b) if a else b
        if isinstance(b, bool):
            return self.negation(a) if b else a
        if self.same(a, b):
            return False
        return self._truth(z3core.Z3_mk_xor(self._ref, a.ast, b.ast))

    def equivalent(self, a: Truth, b: Truth) -> Truth:
        """a = b."""
        if isinstance(a, bool) or isinstance(b, bool) or self.same(a, b):
            return self.negation(self.exclusive(a, b))
        return self._truth(z3core.Z3_mk_eq(self._ref, a.ast, b.ast))

    def choose_truth(self, condition: Truth, a: Truth, b: Truth) -> Truth:
        """`a` if the condition holds, else `b`."""
        if isinstance(condition, bool):
            return a if condition else b
        if self.same(a, b):
            return a
        if isinstance(a, bool):
            return self.disjunction((condition, b)) if a else self.conjunction((self.negation(condition), b))
        if isinstance(b, bool):
            return self.implies(condition, a) if b else self.conjunction((condition, a))
        return self._truth(z3core.Z3_mk_ite(self._ref, condition.ast, a.ast, b.ast))

    def bit(self, a: Vector, index: Vector, width: int, index_width: int) -> Truth:
        """Bit `index` of `a`; false beyond the width."""
        if isinstance(index, int):
            return index < width and self.equal(self.extract(a, index, index), 1, 1)
        return self.equal(self.extract(self.shift(">>", a, index, width, index_width), 0, 0), 1, 1)

    def as_vector(self, a: Truth) -> Vector:
        """A truth value as one bit."""
        return self.choose(a, 1, 0, 1)


class AbstractTerms(Terms):
    """Terms in which a product of more than 64 bits is an unknown function of its factors.

    Theorems about virtualization compare such products and never need their values, which solvers find hard.
    """

    def arithmetic(self, op: str, a: Vector, b: Vector, width: int) -> Vector:
        """An operator of `_ARITHMETIC` on two vectors of one width."""
        if op != "*" or width <= 64 or (isinstance(a, int) and isinstance(b, int)):
            return super().arithmetic(op, a, b, width)
        product = self.function(f"product_{width}", (width, width), width)
        return cast(Vector, self.apply(product, (self.vector(a, width), self.vector(b, width))))


def conjuncts(term: z3.BoolRef) -> list[z3.BoolRef]:
    """The parts of nested conjunctions."""
    if not z3.is_and(term):
        return [term]
    return [part for child in term.children() for part in conjuncts(child)]


def _neutral(op: str, a: Vector, b: Vector, width: int) -> Vector | None:
    """The result where one side is a constant that makes it trivial, else None."""
    ones = (1 << width) - 1
    if isinstance(a, int) and a == 0 and op in ("<<", ">>", ">>s"):
        return 0
    if isinstance(a, int) and op in ("+", "&", "|", "^", "*"):
        a, b = b, a
    if not isinstance(b, int):
        return None
    if b == 0 and op in ("&", "*"):
        return 0
    if (b == 0 and op in ("+", "-", "|", "^", "<<", ">>", ">>s")) or (b == ones and op == "&"):
        return a
    return ones if b == ones and op == "|" else None
