"""The family `manual`: functions that a theorem's two sides share return what the manual says, and VM entry checks it.

A policy or the guest's view and an instruction may use the same function of the specification; what VM entry checks,
other theorems assume and prove. A fault in either changes both sides alike, or makes less to be proved, and no other
theorem notices. Here each is compared with an expectation that uses nothing of the specification but the registers and
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import z3

from checks.extract import Roots
from checks.manual.control_rules import Rules, control_rules, host_rules
from checks.manual.expected import EXPECTATIONS
from checks.manual.guest_rules import (
    guest_activity_rules,
    guest_link_rules,
    guest_register_rules,
    guest_segment_rules,
)
from checks.manual.machine import Machine
from checks.manual.subject import Subject, goal
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.values import fresh, lifted
from checks.theorem import Goal, Group, Outline
from checks.walk import names_in
from grammar import ir

RULES: dict[str, Callable[[Machine], Rules]] = {
    one.__name__: one
    for one in (
        *(control_rules, host_rules),
        *(guest_register_rules, guest_segment_rules, guest_activity_rules, guest_link_rules),
    )
}
"""By the name of a group of rules of the specification."""


class ManualFamily:
    """A theorem for each function of which there is an expectation, and for each rule of VM entry."""

    name = "manual"

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each function, and one for each group of rules."""
        for function in EXPECTATIONS:
            if function in program.functions:
                yield self._outline(function, (function,), _roots([function], []))
        for group in (program.rules[name] for name in RULES if name in program.rules):
            called = [program.functions[name].source for name in names_in(group).functions]
            names = tuple(f"{group.name}.{rule.name}" for rule in group.rules)
            yield self._outline(group.name, names, _roots(called, [group.name]))

    def _outline(self, group: str, names: tuple[str, ...], roots: Roots) -> Outline:
        return Outline(f"{self.name}.{group}", tuple(f"{self.name}.{name}" for name in names), roots=roots)

    def build(
        self,
        program: ir.Program,
        group: str,
        context: z3.Context,
        ids: frozenset[str] | None = None,
    ) -> Group:
        """For all arguments, registers and memory a function returns, and returns what is expected; a rule is as
        expected.
        """
        name = group.removeprefix(f"{self.name}.")
        if name in RULES:
            goals = tuple(_of_rules(program, program.rules[name], context, ids))
        else:
            goals = (_of_function(program, program.functions[name], context),)
        return Group(group, context, goals)


def _roots(functions: list[str], rules: list[str]) -> Roots:
    return Roots(
        functions=frozenset(functions), has_policies=False, has_invariants=False, rules=frozenset(rules)
    )


def _of_function(program: ir.Program, function: ir.Function, context: z3.Context) -> Goal:
    assert function.result is not None
    machine = Machine.arbitrary(program, context)
    terms, cursor = machine.terms, Cursor(machine.state.copy(), {})
    given = {p.name: fresh(terms, f"argument.{p.name}", p.type) for p in function.parameters}
    evaluator = Evaluator(program, terms)
    value = evaluator.call(function, tuple(given.values()), cursor, [])
    arguments = {p.name: lifted(terms, given[p.name], p.type) for p in function.parameters}
    expected = EXPECTATIONS[function.name](machine, *arguments.values())
    returned = lifted(terms, value, function.result) if value is not None else None
    subject = Subject(function.name, function.span, arguments, expected, returned)
    return goal(subject, machine, evaluator, terms.truth(cursor.alive))


def _of_rules(
    program: ir.Program, group: ir.Rules, context: z3.Context, ids: frozenset[str] | None
) -> Iterator[Goal]:
    machine = Machine.arbitrary(program, context)
    expected = RULES[group.name](machine)
    for rule in group.rules:
        name = f"{group.name}.{rule.name}"
        if ids is None or f"{ManualFamily.name}.{name}" in ids:
            evaluator = Evaluator(program, machine.terms)
            value = machine.terms.truth(evaluator.pure(rule.condition, machine.state))
            subject = Subject(name, rule.span, {}, expected[rule.name], value)
            yield goal(subject, machine, evaluator, z3.BoolVal(True, context))
