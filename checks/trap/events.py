"""Theorems about what an instruction's fault leads to: the functions of the specification that handle events.

The instructions' own theorems end where a fault is raised, with what it carries. These go on from an arbitrary fault,
as far as handling it cannot exit: that the exception bitmap makes a guest exit is the VMM's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import Vector
from checks.symbolic.values import Value, fresh, leaves, width_of
from checks.theorem import Goal
from checks.trap.casefile import CaseExplainer
from checks.trap.compare import Comparer
from checks.trap.concrete import Written, show_record
from checks.trap.contract import FAULT
from checks.trap.explain import Sides
from checks.trap.runs import Settings
from checks.trap.theorems import FormProof
from grammar import ir

# Functions that take the fault, by their names in the specification.
FUNCTIONS = ("set_resume_flag", "record_cause", "deliver_event")
ACTIVE = 0
"""An instruction was executing, so the processor is in the active state.  SDM 3C 25.4.2"""


@dataclass(slots=True)
class EventExplainer(CaseExplainer):
    """Shows the event that a function was given."""

    function: ir.Function
    event: Value

    def symbols(self) -> tuple[Value, ...]:
        """The fields of the event."""
        return tuple(leaf for _, leaf, _ in leaves(self.event, self.settings.program.aborts[FAULT].type))

    def shown(self, sides: Sides) -> tuple[str, dict[str, object] | None]:
        """The event, and the case: the function is called with it."""
        type_, function = self.settings.program.aborts[FAULT].type, self.function
        name = f"{function.name}.{function.parameters[0].name}"
        arguments = {n: sides.concrete.number(part) for n, part, _ in leaves(self.event, type_, name)}
        text = f"event ({show_record(sides.concrete, self.event, type_)})"
        return text, self.case(sides, function.name, Written(b"", text, {}), arguments)


def event_functions(program: ir.Program) -> list[ir.Function]:
    """Those of the functions that the specification has."""
    return [program.functions[name] for name in FUNCTIONS if name in program.functions]


def event_goals(name: str, function: ir.Function, settings: Settings, comparer: Comparer) -> Iterator[Goal]:
    """C, I and E for one function and an arbitrary event."""
    terms = settings.terms
    event = fresh(terms, "event", settings.program.aborts[FAULT].type)

    def act(evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        evaluator.call(function, (event,), cursor, exits)

    starts = (cast(Vector, state.get("ACTIVITY_STATE")) for state in (settings.first, settings.second))
    width = width_of(settings.program.state["ACTIVITY_STATE"].type)
    proof = FormProof.of(settings, comparer, act, [terms.equal(start, ACTIVE, width) for start in starts])
    yield from proof.goals(name, EventExplainer(settings, function.span, name, function, event))
