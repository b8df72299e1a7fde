"""The theorem about one function or rule: that it is as the manual says, and a counterexample that replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import z3

from checks.function_case import IT_RETURNS, RESULT, RIGHT, function_case
from checks.manual.machine import Machine
from checks.symbolic.evaluate import Evaluator
from checks.theorem import Counterexample, Goal, Witness
from checks.totality.open_run import start_bytes, start_items
from checks.trap.concrete import Concrete
from grammar.source import Span


@dataclass(frozen=True, slots=True)
class Subject:
    """A function with its arguments, or a rule: what is expected of it, and what it returns, None if it never does."""

    name: str
    span: Span
    arguments: Mapping[str, z3.ExprRef]
    expected: z3.ExprRef
    returned: z3.ExprRef | None

    def values(self, machine: Machine) -> dict[str, z3.ExprRef]:
        """What a counterexample shows, by name."""
        returned = {} if self.returned is None else {"returned": self.returned}
        return {**self.arguments, **machine.read, "expected": self.expected, **returned}


def goal(subject: Subject, machine: Machine, evaluator: Evaluator, returns: z3.BoolRef) -> Goal:
    """It returns, and what is expected; `evaluator` is what made its value."""
    witness = Witness(IT_RETURNS, returns)
    right = returns if subject.returned is None else z3.And(returns, subject.returned == subject.expected)
    explain = partial(_explain, subject, machine, evaluator)
    return Goal(f"manual.{subject.name}", right, witnesses=(witness,), explain=explain)


def _explain(subject: Subject, machine: Machine, evaluator: Evaluator, model: z3.ModelRef) -> Counterexample:
    concrete = Concrete(model)
    shown = {name: value for name, value in subject.values(machine).items() if _matters(model, value)}
    rows = tuple((name, f"{concrete.number(value):#x}") for name, value in shown.items())
    summary = f"{subject.name} is not what the manual says"
    state = machine.read_values(concrete) | dict(start_items(concrete, machine.state, [evaluator]))
    expected = {f"{subject.name}.{name}": concrete.number(one) for name, one in subject.arguments.items()}
    expected[RIGHT] = concrete.number(subject.expected)
    if subject.returned is not None:
        expected[RESULT] = concrete.number(subject.returned)
    memory = machine.read_memory(concrete) | dict(start_bytes(concrete, machine.state, [evaluator]))
    goal_id = f"manual.{subject.name}"
    case = function_case(goal_id, subject.name, state, memory, expected, summary)
    return Counterexample(summary, ("what", "value"), rows, subject.span, case)


def _matters(model: z3.ModelRef, value: z3.ExprRef) -> bool:
    """Whether the counterexample says what it is: the others may be anything."""
    found = model.eval(value)
    return bool(z3.is_bv_value(found) or z3.is_true(found) or z3.is_false(found))
