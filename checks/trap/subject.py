"""One instruction form under proof: its symbols, and the terms of its runs, made once and only when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Vector
from checks.trap.casefile import FormExplainer, Tools
from checks.trap.compare import Comparer
from checks.trap.forms import Form
from checks.trap.operands import CODE_SIZE, OperandSymbols, SymbolicOperands
from checks.trap.runs import Act, Settings
from checks.trap.theorems import FormProof
from grammar import ir


class Subject:
    """A form, with what its goals are made from."""

    def __init__(self, form: Form, settings: Settings, comparer: Comparer, tools: Tools) -> None:
        self.form, self.settings, self.comparer, self.tools = form, settings, comparer, tools

    @cached_property
    def symbols(self) -> OperandSymbols:
        """The symbols of the operands, the same in all runs."""
        return OperandSymbols.of(self.settings, self.form)

    @cached_property
    def proof(self) -> FormProof:
        """The runs of the form, and the claims about them."""
        return self.proof_of(self.form.body.body)

    def proof_of(self, body: Sequence[ir.Stmt]) -> FormProof:
        """The same for another body in the place of the form's own."""
        act = act_of(body, self.symbols)
        return FormProof.of(self.settings, self.comparer, act, self.symbols.hypotheses())

    def explainer(self, name: str) -> FormExplainer:
        """Explains refutations of goals whose ids begin with `name`."""
        return FormExplainer(self.settings, self.form.instruction.span, name, self.symbols, self.tools)


def act_of(body: Sequence[ir.Stmt], symbols: OperandSymbols) -> Act:
    """What a run of an instruction does: its body, after NEXT_RIP was set as `execute` sets it."""

    def act(evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        begin(evaluator, symbols, cursor, exits)
        evaluator.run(body, cursor, exits)

    return act


def begin(evaluator: Evaluator, symbols: OperandSymbols, cursor: Cursor, exits: Exits) -> None:
    """Makes the operands those of the form, and sets NEXT_RIP as `execute` does before the body runs."""
    evaluator.operands = SymbolicOperands(evaluator, symbols)
    code_size = evaluator.call(evaluator.program.functions[CODE_SIZE], (), cursor, exits)
    cursor.state.set(
        "NEXT_RIP", next_rip(evaluator.terms, cursor.state, symbols.length, cast(Vector, code_size))
    )


def next_rip(terms: Terms, state: State, length: Vector, code_size: Vector) -> Vector:
    """RIP plus the length, EIP plus it outside 64-bit mode."""
    following = terms.arithmetic("+", cast(Vector, state.get("RIP")), length, 64)
    low = terms.extend(terms.extract(following, 31, 0), 32, 64, is_signed=False)
    return terms.choose(terms.equal(code_size, 64, 64), following, low, 64)
