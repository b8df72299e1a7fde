"""Products and quotients as functions of numbers.

The product or quotient of two numbers does not depend on how many bits they are written with. So all multiplications
and divisions are applications of three functions on 128 bits about which little is known, the specification's of 2N
bits as well as the handlers' of 64, and a proof need not look into them. What holds for the functions holds for
multiplication and division in particular.
"""

from __future__ import annotations

from collections.abc import Iterator

import z3

from checks.symbolic.terms import Terms, Truth, Vector

WIDE = 128
SHORT = 8  # operands this short are as they are: the specification counts rotations with them
FUNCTIONS = {"*": "product", "/": "quotient", "%": "remainder"}


class NumberTerms(Terms):
    """Terms in which multiplication and division of unknown numbers are not looked into."""

    def __init__(self, context: z3.Context) -> None:
        super().__init__(context)
        self._functions = {op: self.function(name, (WIDE, WIDE), WIDE) for op, name in FUNCTIONS.items()}
        self._facts: dict[tuple[str, int, int], Truth] = {}

    def arithmetic(self, op: str, a: Vector, b: Vector, width: int) -> Vector:
        """As in `Terms`, but for products of two unknowns and for division."""
        if op not in FUNCTIONS or width <= SHORT or isinstance(b, int) or (op == "*" and isinstance(a, int)):
            return super().arithmetic(op, a, b, width)
        result = self._applied(op, a, b, width, is_signed=op == "*")
        if op == "*" and width < WIDE:
            self._note(op, a, b, self.equal(result, self._applied(op, a, b, width, is_signed=False), width))
        elif op != "*":
            self._note(op, a, b, self._division_fact(op, a, b, result, width))
        return result

    def _applied(self, op: str, a: Vector, b: Vector, width: int, *, is_signed: bool) -> Vector:
        left, right = (self.vector(self.extend(v, width, WIDE, is_signed=is_signed), WIDE) for v in (a, b))
        return self.extract(self.apply(self._functions[op], (left, right)), width - 1, 0)

    def _division_fact(self, op: str, a: Vector, b: Vector, result: Vector, width: int) -> Truth:
        """Neither result is more than the dividend, and a remainder is less than the divisor."""
        is_short = self.compare("<=", result, a, width)
        is_rest = True if op == "/" else self.compare("<", result, b, width)
        return self.implies(self.negation(self.equal(b, 0, width)), self.conjunction((is_short, is_rest)))

    def _note(self, op: str, a: Vector, b: Vector, fact: Truth) -> None:
        self._facts[op, self.vector(a, 0).get_id(), self.vector(b, 0).get_id()] = fact

    def forget_facts(self) -> None:
        """Begins another proof: it needs no facts about the numbers of the one before."""
        self._facts.clear()

    @property
    def divides(self) -> bool:
        """Whether a quotient or remainder was made."""
        return any(op in "/%" for op, _, _ in self._facts)

    def facts(self) -> Iterator[Truth]:
        """What the proofs need of the products and quotients that were made.

        The low half of a product is the same for signed and unsigned numbers; `_division_fact`.
        """
        yield from self._facts.values()
