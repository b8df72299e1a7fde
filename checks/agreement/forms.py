"""An instruction form as symbolic terms, from a start state that is all symbols."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import z3

from checks.agreement.compiled import Evaluate, compiled
from checks.agreement.reference import COMPLETES
from checks.fast.start import ReferenceEvaluator, Source
from checks.symbolic.memory import BYTE, ByteMemory
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, fresh, leaves, lifted
from checks.trap.contract import LINEAR, Contract
from checks.trap.forms import Form
from checks.trap.initial import Symbols
from checks.trap.operands import CODE_SIZE, OperandSymbols
from checks.trap.runs import LINEAR_WIDTH
from checks.trap.subject import act_of
from checks.trap.unknown import Unknowns
from grammar import ir

PROBE = "probe!"
"""The beginning of the names of the symbols for the point at which indexed state is compared."""


@dataclass(frozen=True, slots=True)
class End:
    """One way a form ends: where its condition, what it carries and the state it leaves stand among the values.

    `carried` are the places of the leaves of the abort's value, `scalars` and `elements` those of changed state, the
    latter at the probed point.
    """

    kind: str
    condition: int
    carried: tuple[int, ...]
    scalars: dict[str, int]
    elements: dict[str, int]


@dataclass(frozen=True, slots=True)
class FormTerms:
    """A form that can be evaluated: `evaluate` gives the values that `ends` speak of."""

    form: Form
    ends: tuple[End, ...]
    evaluate: Evaluate


def form_terms(program: ir.Program, form: Form) -> FormTerms:
    """Runs a form symbolically and compiles what comes out."""
    builder = _Builder(program, Terms(z3.Context()))
    ends = tuple(builder.end(kind, end) for kind, end in builder.run(form))
    return FormTerms(form, ends, compiled(builder.outputs))


class _Builder:
    def __init__(self, program: ir.Program, terms: Terms) -> None:
        self.program, self.terms = program, terms
        self.outputs: list[z3.ExprRef] = []
        symbols = Symbols(terms)
        source = Source(symbols, terms.symbol("RFLAGS", 64))
        widths = {name: memory.address.width for name, memory in program.memories.items()}
        memories = {
            name: ByteMemory(terms, width, lambda a, n=name, w=width: symbols.byte(n, a, w))  # type: ignore[misc]
            for name, width in {**widths, LINEAR: LINEAR_WIDTH}.items()
        }
        self._start = State(Surroundings(program, terms, source, dict(memories)))

    def run(self, form: Form) -> Iterator[tuple[str, Exit]]:
        """Each way the form ends."""
        contract = Contract(self.program, lambda _: (), Unknowns(self.terms))
        evaluator = ReferenceEvaluator(self.program, self.terms, overrides=contract.overrides())
        cursor, exits = Cursor(self._start.copy(), {}), cast(Exits, [])
        code_size = evaluator.call(self.program.functions[CODE_SIZE], (), cursor, exits)
        symbols = OperandSymbols(self.terms, form, self._start.elements("GPR"), cast(Vector, code_size))
        act_of(form.body.body, symbols)(evaluator, cursor, exits)
        cursor.leave(RETURN, None, None, exits)
        scope = Cursor(self._start, {})
        returned = [e for e in exits if e.kind == RETURN]
        if returned:
            yield COMPLETES, evaluator.merge_returns(returned, scope)
        for kind in dict.fromkeys(e.kind for e in exits if e.kind != RETURN):
            yield kind, cast(Exit, evaluator.merge_aborts(exits, kind, scope))

    def end(self, kind: str, end: Exit) -> End:
        """Adds the values of one end to the outputs."""
        condition = self._put(end.condition, ir.BOOL)
        type_ = self.program.aborts[kind].type if kind != COMPLETES else None
        carried = (
            [self._put(v, t) for _, v, t in leaves(cast(Value, end.value), type_)]
            if type_ is not None
            else []
        )
        scalars, elements = {}, {}
        for name in end.state.changed:
            variable = self.program.state.get(name)
            if variable is not None and not variable.indices:
                scalars[name] = self._put(end.state.get(name), variable.type)
                continue
            indices = (
                [(p.name, p.type) for p in variable.indices] if variable is not None else [("address", None)]
            )
            point = tuple(
                fresh(self.terms, f"{PROBE}{name}.{i}", type_ or ir.Bits(LINEAR_WIDTH))
                for i, (_, type_) in enumerate(indices)
            )
            type_of = variable.type if variable is not None else BYTE
            elements[name] = self._put(end.state.elements(name).read(point), type_of)
        return End(kind, condition, tuple(carried), scalars, elements)

    def _put(self, value: Value | Truth, type_: ir.Type) -> int:
        self.outputs.append(lifted(self.terms, value, type_))
        return len(self.outputs) - 1
