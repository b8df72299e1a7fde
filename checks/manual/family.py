"""The family `manual`: functions that a theorem's two sides share return what the manual says.

A policy or the guest's view and an instruction may use the same function of the specification. A fault in it changes
both sides alike, and no other theorem notices. Here each such function is compared with an expectation that uses
nothing of the specification but the registers and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import z3

from checks.extract import Roots
from checks.function_case import IT_RETURNS, RESULT, RIGHT, function_case
from checks.manual.expected import EXPECTATIONS
from checks.manual.machine import Machine
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.values import fresh, lifted
from checks.theorem import Counterexample, Goal, Group, Outline, Witness
from checks.totality.open_run import start_bytes, start_items
from checks.trap.concrete import Concrete
from grammar import ir


class ManualFamily:
    """A theorem for each function of which there is an expectation."""

    name = "manual"

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each."""
        for function in EXPECTATIONS:
            if function in program.functions:
                roots = Roots(functions=frozenset({function}), has_policies=False, has_invariants=False)
                yield Outline(f"{self.name}.{function}", (f"{self.name}.{function}",), roots=roots)

    def build(
        self,
        program: ir.Program,
        group: str,
        context: z3.Context,
        ids: frozenset[str] | None = None,  # noqa: ARG002 - there is one goal
    ) -> Group:
        """For all arguments, registers and memory the function returns, and returns what is expected."""
        function = program.functions[group.removeprefix(f"{self.name}.")]
        assert function.result is not None
        machine = Machine.arbitrary(program, context)
        terms, cursor = machine.terms, Cursor(machine.state.copy(), {})
        given = {p.name: fresh(terms, f"argument.{p.name}", p.type) for p in function.parameters}
        evaluator = Evaluator(program, terms)
        value = evaluator.call(function, tuple(given.values()), cursor, [])
        shown = {p.name: lifted(terms, given[p.name], p.type) for p in function.parameters}
        expected = EXPECTATIONS[function.name](machine, *shown.values())
        returns = terms.truth(cursor.alive)
        shown |= {**machine.read, "expected": expected}
        if value is not None:
            shown["returned"] = lifted(terms, value, function.result)
            returns = z3.And(returns, shown["returned"] == expected)
        witness = Witness(IT_RETURNS, terms.truth(cursor.alive))
        explain = partial(_explain, group, function, shown, machine, evaluator)
        goal = Goal(group, returns, witnesses=(witness,), explain=explain)
        return Group(group, context, (goal,))


def _explain(
    goal: str,
    function: ir.Function,
    shown: dict[str, z3.ExprRef],
    machine: Machine,
    evaluator: Evaluator,
    model: z3.ModelRef,
) -> Counterexample:
    concrete = Concrete(model)
    rows = tuple((name, f"{concrete.number(value):#x}") for name, value in shown.items())
    summary = f"{function.name} does not return what the manual says"
    state = machine.read_values(concrete) | dict(start_items(concrete, machine.state, [evaluator]))
    expected = {f"{function.name}.{p.name}": concrete.number(shown[p.name]) for p in function.parameters} | {
        RIGHT: concrete.number(shown["expected"])
    }
    if "returned" in shown:
        expected[RESULT] = concrete.number(shown["returned"])
    memory = dict(start_bytes(concrete, machine.state, [evaluator]))
    case = function_case(goal, function.name, state, memory, expected, summary)
    return Counterexample(summary, ("what", "value"), rows, function.span, case)
