"""The initial states of the three runs that the theorems compare.

Two runs in VMX non-root mode, of states that look the same to the guest, and one on the bare machine that the guest
believes to have. The first two share the symbols of everything the guest sees and of the controls; only what the VMM
owns, and VMCS fields that carry a value into the guest's view, has symbols of its own in each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.state import Source, State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Value, build, choose, lifted, symbol, width_of
from grammar import ir


@dataclass(slots=True)
class Symbols:
    """The symbols of initial values by name: constants, or uninterpreted functions of the indices."""

    terms: Terms
    scalars: dict[str, tuple[Value, ir.Type]] = field(default_factory=dict)
    functions: dict[str, z3.FuncDeclRef] = field(default_factory=dict)

    def value(self, name: str, variable: ir.StateVariable, point: Point) -> Value:
        """The symbol of a variable, or of its element at a point."""
        if variable.indices:
            types = [parameter.type for parameter in variable.indices]
            arguments = [lifted(self.terms, v, t) for v, t in zip(point, types, strict=True)]
            return build(variable.type, name, lambda leaf, t: self._apply(leaf, t, types, arguments))
        if name not in self.scalars:
            value = build(variable.type, name, lambda leaf, t: symbol(self.terms, leaf, t))
            self.scalars[name] = (value, variable.type)
        return self.scalars[name][0]

    def byte(self, name: str, address: Vector, width: int) -> Vector:
        """The symbol of a byte of a memory with addresses of `width` bits."""
        return cast(
            Vector, self._apply(name, ir.Bits(8), [ir.Bits(width)], [self.terms.vector(address, width)])
        )

    def _apply(
        self, name: str, type_: ir.Type, index_types: list[ir.Type], arguments: list[z3.ExprRef]
    ) -> Value:
        if name not in self.functions:
            result = 0 if isinstance(type_, ir.Bool) else width_of(type_)
            widths = [0 if isinstance(t, ir.Bool) else width_of(t) for t in index_types]
            self.functions[name] = self.terms.function(name, widths, result)
        return self.terms.apply(self.functions[name], arguments)


def masked_part(variable: ir.StateVariable) -> ir.Expr | None:
    """M where the VMM's part is declared as `the variable & M`, as of CR0 and CR4; else None."""
    host = variable.host
    if isinstance(host, ir.Binary) and host.op == "&" and not variable.indices:
        for itself, mask in ((host.left, host.right), (host.right, host.left)):
            if isinstance(itself, ir.Read) and itself.name == variable.name:
                return mask
    return None


def is_shared(variable: ir.StateVariable) -> bool:
    """Whether the two runs in VMX non-root mode agree on all of a variable at the start."""
    if variable.space == "vmcs":
        return not variable.carries_value
    is_guests = variable.owner == ir.Literal(ir.BOOL, 1) and variable.host is None
    return is_guests and isinstance(variable.view, ir.Read) and variable.view.name == variable.name


def is_seen_indirectly(variable: ir.StateVariable) -> bool:
    """Whether the runs agree on what the guest sees of a variable only because that is assumed, as of the TSC."""
    is_mixed = masked_part(variable) is not None or not isinstance(variable.owner, ir.Literal)
    return variable.view is not None and not is_shared(variable) and not is_mixed


def is_look_assumed(variable: ir.StateVariable) -> bool:
    """Whether that the runs agree on what the guest sees of a variable is an assumption.

    They agree by construction where they share the symbols of all that the view shows, as by default.
    """
    is_default = isinstance(variable.view, ir.Conditional) and variable.view.condition == variable.owner
    is_masked = masked_part(variable) is not None
    return variable.view is not None and not is_shared(variable) and not is_masked and not is_default


@dataclass(slots=True)
class Anything(Source):
    """Initial values of which nothing is known."""

    symbols: Symbols

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """An unknown function at the point."""
        return self.symbols.value(variable.name, variable, point)


@dataclass(slots=True)
class GuestSource:
    """The initial values of one of the two runs in VMX non-root mode; `secret` names the run's own symbols."""

    symbols: Symbols
    secret: str
    evaluator: Evaluator
    mode: str
    state: State | None = None

    def scalar(self, variable: ir.StateVariable) -> Value:
        """The initial value of a variable that is not indexed."""
        return True if variable.name == self.mode else self.element(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        if is_shared(variable):
            return self.symbols.value(variable.name, variable, point)
        secret = self.symbols.value(f"{variable.name}!{self.secret}", variable, point)
        if isinstance(variable.owner, ir.Literal) and masked_part(variable) is None:
            return secret
        return self._mixed(variable, point, self.symbols.value(variable.name, variable, point), secret)

    def _mixed(self, variable: ir.StateVariable, point: Point, shared: Value, secret: Value) -> Value:
        """The shared symbol where the guest owns the variable, the run's own where the VMM does."""
        terms = self.symbols.terms
        mask = masked_part(variable)
        if mask is None:
            owner = cast(Truth, self._evaluate(variable.owner, variable, point))
            return choose(terms, owner, shared, secret, variable.type)
        width = width_of(variable.type)
        bits = cast(Vector, self._evaluate(mask, variable, point))
        theirs = terms.arithmetic("&", cast(Vector, shared), terms.complement(bits, width), width)
        return terms.arithmetic("|", theirs, terms.arithmetic("&", cast(Vector, secret), bits, width), width)

    def _evaluate(self, expression: ir.Expr, variable: ir.StateVariable, point: Point) -> Value:
        assert self.state is not None
        bindings = {p.name: v for p, v in zip(variable.indices, point, strict=True)}
        return self.evaluator.pure(expression, self.state, **bindings)


@dataclass(slots=True)
class BareSource:
    """The initial values on the bare machine: what the guest sees of the first run."""

    symbols: Symbols
    evaluator: Evaluator
    seen: State
    mode: str

    def scalar(self, variable: ir.StateVariable) -> Value:
        """The initial value of a variable that is not indexed."""
        return False if variable.name == self.mode else self._value(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        return self._value(variable, point)

    def _value(self, variable: ir.StateVariable, point: Point) -> Value:
        if variable.view is None:  # the bare machine has no VMM: what it has in this place cannot matter
            return self.symbols.value(f"{variable.name}!bare", variable, point)
        bindings = {p.name: v for p, v in zip(variable.indices, point, strict=True)}
        return self.evaluator.pure(variable.view, self.seen, **bindings)
