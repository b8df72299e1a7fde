"""Builds Z3 terms, folding what is constant.

A vector is a Python `int` where its value is known and a `BitVecRef` otherwise; a truth value is a `bool` or a
`BoolRef`. Folding here keeps concrete parts of a machine (operand kinds, mode, loop counters) out of the terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, TypeAlias, cast

import z3

from checks.symbolic.folding import fold_arithmetic, fold_comparison, neutral, signed
from checks.symbolic.nodes import Nodes

Vector: TypeAlias = int | z3.BitVecRef
Truth: TypeAlias = bool | z3.BoolRef

_ARITHMETIC: dict[str, str] = {
    "+": "bvadd",
    "-": "bvsub",
    "*": "bvmul",
    "/": "bvudiv",
    "%": "bvurem",
    "&": "bvand",
    "|": "bvor",
    "^": "bvxor",
    "<<": "bvshl",
    ">>": "bvlshr",
    ">>s": "bvashr",
}
_COMPARISONS: dict[str, str] = {
    "<": "bvult",
    "<=": "bvule",
    ">": "bvugt",
    ">=": "bvuge",
    "<s": "bvslt",
    "<=s": "bvsle",
    ">s": "bvsgt",
    ">=s": "bvsge",
}
_EXTEND = {False: "zero_ext", True: "sign_ext"}


class Terms:
    """A builder of terms in one z3 context."""

    def __init__(self, context: z3.Context) -> None:
        self.context = context
        self._nodes = Nodes(context)
        self._true = z3.BoolVal(True, context)
        self._false = z3.BoolVal(False, context)
        self._negated: dict[int, z3.BoolRef] = {}
        self._summands: dict[int, tuple[z3.BitVecRef, z3.BitVecRef]] = {}
        self._conjuncts: dict[int, tuple[z3.BoolRef, ...]] = {}

    # --- leaves ----------------------------------------------------------------------------------

    def vector(self, value: Vector, width: int) -> z3.BitVecRef:
        """`value` as a term."""
        return self._nodes.numeral(value, width) if isinstance(value, int) else value

    def truth(self, value: Truth) -> z3.BoolRef:
        """`value` as a term."""
        if isinstance(value, bool):
            return self._true if value else self._false
        return value

    def symbol(self, name: str, width: int) -> z3.BitVecRef:
        """A symbol of `width` bits."""
        return cast(z3.BitVecRef, self._nodes.symbol(name, width))

    def bool_symbol(self, name: str) -> z3.BoolRef:
        """A symbol that is true or false."""
        return cast(z3.BoolRef, self._nodes.symbol(name, 0))

    def function(self, name: str, widths: Sequence[int], result: int) -> z3.FuncDeclRef:
        """An uninterpreted function of bit vectors; `result` is a width, or 0 for bool."""
        return self._nodes.function(name, tuple(widths), result)

    def apply(self, function: z3.FuncDeclRef, arguments: Sequence[z3.ExprRef]) -> Any:
        """The value, a bit vector or a truth value, of one of the functions made here."""
        return self._nodes.application(function, arguments)

    # --- vectors ---------------------------------------------------------------------------------

    def arithmetic(self, op: str, a: Vector, b: Vector, width: int) -> Vector:
        """An operator of `_ARITHMETIC` on two vectors of one width."""
        if isinstance(a, int) and isinstance(b, int):
            return fold_arithmetic(op, a, b, width)
        short = neutral(op, a, b, width)
        if short is not None:
            return short
        left, right = self.vector(a, width), self.vector(b, width)
        if op == "-" and left.ast.value in self._summands:
            first, second = self._summands[left.ast.value]
            if self.same(first, right):
                return second  # the length of an instruction, from the address behind it
        made = self._nodes.vector(_ARITHMETIC[op], width, left, right)
        if op == "+":
            self._summands[made.ast.value] = left, right
        return made

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
        return self._nodes.vector("bvnot", width, a)

    def negate(self, a: Vector, width: int) -> Vector:
        """The two's complement."""
        if isinstance(a, int):
            return -a & ((1 << width) - 1)
        return self._nodes.vector("bvneg", width, a)

    def extract(self, a: Vector, high: int, low: int) -> Vector:
        """Bits `high` to `low`."""
        if isinstance(a, int):
            return a >> low & ((1 << (high - low + 1)) - 1)
        if low == 0 and high + 1 == a.size():
            return a
        return self._nodes.vector("extract", high - low + 1, a, numbers=(high, low))

    def extend(self, a: Vector, width: int, new_width: int, *, is_signed: bool) -> Vector:
        """`a` (of `width` bits) widened to `new_width`."""
        if isinstance(a, int):
            return signed(a, width) & ((1 << new_width) - 1) if is_signed else a
        if new_width == width:
            return a
        return self._nodes.vector(_EXTEND[is_signed], new_width, a, numbers=(new_width - width,))

    def concat(self, parts: Sequence[tuple[Vector, int]]) -> Vector:
        """(value, width) pairs side by side, the high part first."""
        return reduce(self._join, parts)[0]

    def _join(self, high: tuple[Vector, int], low: tuple[Vector, int]) -> tuple[Vector, int]:
        (a, a_width), (b, b_width) = high, low
        if isinstance(a, int) and isinstance(b, int):
            return a << b_width | b, a_width + b_width
        left, right = self.vector(a, a_width), self.vector(b, b_width)
        return self._nodes.vector("concat", a_width + b_width, left, right), a_width + b_width

    def choose(self, condition: Truth, a: Vector, b: Vector, width: int) -> Vector:
        """`a` if the condition holds, else `b`."""
        if isinstance(condition, bool):
            return a if condition else b
        if self.same(a, b):
            return a
        left, right = self.vector(a, width), self.vector(b, width)
        return self._nodes.vector("ite", width, condition, left, right)

    # --- truth values ----------------------------------------------------------------------------

    def same(self, a: object, b: object) -> bool:
        """Whether two values are the same term; if not they may still be equal."""
        if isinstance(a, z3.AstRef) and isinstance(b, z3.AstRef):
            return bool(a.ast.value == b.ast.value)
        return type(a) is type(b) and not isinstance(a, z3.AstRef) and a == b

    def equal(self, a: Vector, b: Vector, width: int) -> Truth:
        """Whether two vectors are equal."""
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        left, right = self.vector(a, width), self.vector(b, width)
        if self.same(left, right):
            return True
        return self._nodes.truth("eq", left, right)

    def compare(self, op: str, a: Vector, b: Vector, width: int) -> Truth:
        """An ordering of `_COMPARISONS`."""
        if isinstance(a, int) and isinstance(b, int):
            return fold_comparison(op, a, b, width)
        left, right = self.vector(a, width), self.vector(b, width)
        return self._nodes.truth(_COMPARISONS[op], left, right)

    def negation(self, a: Truth) -> Truth:
        """Not `a`."""
        if isinstance(a, bool):
            return not a
        negated = self._negated.get(a.ast.value)
        if negated is None:
            negated = self._nodes.truth("not", a)
            self._negated[negated.ast.value] = a
            self._negated[a.ast.value] = negated
        return negated

    def conjunction(self, parts: Iterable[Truth]) -> Truth:
        """All of them; true if there are none."""
        return self._junction(parts, absorbing=False)

    def disjunction(self, parts: Iterable[Truth]) -> Truth:
        """Any of them; false if there are none."""
        return self._junction(parts, absorbing=True)

    def _junction(self, parts: Iterable[Truth], *, absorbing: bool) -> Truth:
        terms: dict[int, z3.BoolRef] = {}
        for part in parts:
            if isinstance(part, bool):
                if part is absorbing:
                    return absorbing
            else:
                terms[part.ast.value] = part
        if not terms:
            return not absorbing
        if len(terms) == 1:
            return next(iter(terms.values()))
        made = self._nodes.junction("or" if absorbing else "and", tuple(terms.values()))
        if not absorbing:
            self._conjuncts[made.ast.value] = tuple(terms.values())
        return made

    def implies(self, a: Truth, b: Truth) -> Truth:
        """a ⇒ b, which is true where b is among the conjuncts of a."""
        if not isinstance(a, bool) and not isinstance(b, bool) and self._parts(b) <= self._parts(a):
            return True
        return self.disjunction((self.negation(a), b))

    def _parts(self, term: z3.BoolRef) -> set[int]:
        """The addresses of the parts of nested conjunctions."""
        below = self._conjuncts.get(term.ast.value)
        return {term.ast.value} if below is None else set().union(*map(self._parts, below))

    def exclusive(self, a: Truth, b: Truth) -> Truth:
        """a ≠ b."""
        if isinstance(a, bool):
            return self.negation(b) if a else b
        if isinstance(b, bool):
            return self.negation(a) if b else a
        if self.same(a, b):
            return False
        return self._nodes.truth("xor", a, b)

    def equivalent(self, a: Truth, b: Truth) -> Truth:
        """a = b."""
        if isinstance(a, bool) or isinstance(b, bool) or self.same(a, b):
            return self.negation(self.exclusive(a, b))
        return self._nodes.truth("eq", a, b)

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
        return self._nodes.truth("ite", condition, a, b)

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
