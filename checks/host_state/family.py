"""The family `host_state`: the VMCS of a new guest passes VM entry, and its guest starts under the policy.

That handlers and guests keep it so is not proved (docs/theorems.md, "What is not proved").
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import z3

from checks.host_state.built import BOOT, START, Started, started
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth
from checks.symbolic.values import fresh
from checks.theorem import Counterexample, Goal, Group, Outline
from checks.trap.contract import VM_EXIT
from grammar import ir

ENTER = "enter_guest"
LOAD = "load_guest"
ASKED = "can_start"
"""The function of the specification that says what `start_vm` asks of its arguments."""


class HostStateFamily:
    """Theorems about what `start_vm` builds."""

    name = "host_state"

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group."""
        if START in program.functions and BOOT in program.functions:
            group = f"{self.name}.{START}"
            yield Outline(group, tuple(f"{group}.{name}" for name, _ in _conditions(program)))

    def build(
        self,
        program: ir.Program,
        group: str,
        context: z3.Context,
        ids: frozenset[str] | None = None,  # noqa: ARG002 - goals share their terms: all are built
    ) -> Group:
        """The goals: each rule of VM entry before the first entry, each policy after it."""
        guest = started(program, context)
        terms, before = guest.terms, guest.state
        cursor = Cursor(before.copy(), {})
        arguments = (0, guest.arguments[f"{START}.vm"])
        guest.evaluator.call(program.functions[ENTER], arguments, cursor, [])
        guest.evaluator.call(program.functions[LOAD], (), cursor, [])
        guard = program.aborts[VM_EXIT].guard
        assert isinstance(guard, ir.Read)
        cursor.state.set(guard.name, value=True)
        plain = Evaluator(program, terms)
        goals = []
        for name, one in _conditions(program):
            state = cursor.state if name.startswith(POLICY) else before
            bindings = {p.name: fresh(terms, p.name, p.type) for p in one.parameters}
            holds = plain.pure(one.condition, state, **bindings)
            goals.append(Goal(f"{group}.{name}", terms.truth(holds), explain=partial(_explain, name, one)))
        return Group(group, context, tuple(goals), tuple(terms.truth(a) for a in _asked(program, guest)))


POLICY = "policy."


def _conditions(program: ir.Program) -> Iterator[tuple[str, ir.Predicate]]:
    """The rules and policies, by what their goals are called; what depends on who runs comes with the entry."""
    for group in program.rules.values():
        yield from ((f"{group.name}.{rule.name}", rule) for rule in group.rules)
    yield from ((f"{POLICY}{name}", policy) for name, policy in program.policies.items())


def _asked(program: ir.Program, guest: Started) -> Iterator[Truth]:
    """What the caller of `start_vm` promises."""
    function = program.functions.get(ASKED)
    if function is not None:
        arguments = tuple(guest.arguments[f"{START}.{p.name}"] for p in function.parameters)
        yield guest.evaluator.call(function, arguments, Cursor(guest.state.copy(), {}), [])


def _explain(name: str, one: ir.Predicate, _model: z3.ModelRef) -> Counterexample:
    return Counterexample(
        f"a guest that start_vm makes does not keep {name}", ("what", "value"), (), one.span
    )
