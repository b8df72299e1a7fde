"""The theorem about exceptions that exit: the guest gets the one that the bare machine delivers.

Whatever event an instruction raises, and whatever the exception bitmap of the VMCS says, although this VMM leaves it
zero: where the event exits, the handler and the VM entry deliver it with what the processor would have told the guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

from checks.emulation.claims import Emulation, witnesses
from checks.emulation.explain import EmulationExplainer
from checks.emulation.machine import Machine
from checks.emulation.runs import HANDLE_EVENT, SAVE, Handled
from checks.host_state.running import LONGEST
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Record, Value, fresh, leaves
from checks.theorem import Goal
from checks.trap.concrete import Written, show_record
from checks.trap.contract import FAULT
from checks.trap.explain import Sides
from checks.trap.operands import CODE_SIZE
from checks.trap.runs import Settings
from checks.trap.subject import next_rip
from grammar import ir

NAME = "exceptions"
CONTROLS = frozenset({"EXCEPTION_BITMAP", "PAGE_FAULT_ERROR_CODE_MASK", "PAGE_FAULT_ERROR_CODE_MATCH"})
"""What decides which exceptions exit: anything here."""
INFORMATION = "interruption_information"
"""The function that says an event in the format of the VMCS."""
LENGTH, EVENT = "length", "event"
"""In a case: the length of the instruction that raises the event, and the event."""
DELIVERED = ("vector", "kind", "has_error", "error")
"""What the delivery of an event reads of it; the rest has gone to CR2 or DR6 before."""
KINDS = range(3, 7)
"""The types of events that instructions raise.  SDM 3C 25.9.2"""


def exception_goal(emulation: Emulation, program: ir.Program) -> Goal:
    """Any event, raised by an instruction of any length."""
    settings, terms = emulation.player.settings, emulation.player.settings.terms
    event = cast(Record, fresh(terms, EVENT, program.aborts[FAULT].type))
    length = cast(Vector, terms.symbol(LENGTH, 64))

    def begin(machine: Machine, cursor: Cursor, exits: Exits) -> None:
        code_size = machine.call(program.functions[CODE_SIZE], (), cursor, exits)
        cursor.state.set("NEXT_RIP", next_rip(terms, cursor.state, length, cast(Vector, code_size)))

    def body(machine: Machine, cursor: Cursor, exits: Exits) -> None:
        machine.abort(FAULT, True, event, cursor, exits)

    handled = emulation.player.handled(begin, body)
    assert handled is not None, "an exception exits if the bitmap says so"
    claim = emulation.claim(handled, emulation.player.bare(begin, body, handled), DELIVERED)
    kind = cast(Vector, event.field("kind"))
    assumed: list[Truth] = [
        handled.saved,
        _can_be_injected(settings, handled, event, length),
        terms.disjunction(terms.equal(kind, one, 3) for one in KINDS),
        terms.compare("<", 0, length, 64),
        terms.compare("<=", length, LONGEST, 64),
        *(condition for _, condition in settings.instances(handled.run)),
    ]
    where = program.functions[HANDLE_EVENT].span
    explainer = ExceptionExplainer(settings, where, f"emulation.{NAME}", event, length)
    return Goal(
        f"emulation.{NAME}",
        terms.truth(terms.implies(handled.exited, claim.conclusion(terms))),
        tuple(terms.truth(one) for one in assumed if one is not True),
        tuple(witnesses(terms, handled)),
        partial(explainer.minimise, claim),
        partial(explainer.explain, claim),
    )


def _can_be_injected(settings: Settings, handled: Handled, event: Record, length: Vector) -> Truth:
    """The event is one that VM entry accepts: all that the processor raises are."""
    program, machine = settings.program, Evaluator(settings.program, settings.terms)
    cursor = Cursor(settings.first.copy(), {})
    machine.call(program.functions[SAVE], (handled.event,), cursor, [])
    information = machine.call(program.functions[INFORMATION], (event,), cursor, [])
    cursor.state.set("ENTRY_INTERRUPTION_INFORMATION", cast(Value, information))
    cursor.state.set("ENTRY_EXCEPTION_ERROR_CODE", event.field("error"))
    cursor.state.set("ENTRY_INSTRUCTION_LENGTH", settings.terms.extract(length, 31, 0))
    rules = (rule for group in program.rules.values() for rule in group.rules)
    return settings.terms.conjunction(cast(Truth, machine.pure(one.condition, cursor.state)) for one in rules)


@dataclass(slots=True)
class ExceptionExplainer(EmulationExplainer):
    """Shows the event, with a case in which an instruction of that length raises it."""

    event: Record
    length: Vector

    def symbols(self) -> tuple[Value, ...]:
        """The fields of the event."""
        return tuple(leaf for _, leaf, _ in leaves(self.event, self.event.type))

    def shown(self, sides: Sides) -> tuple[str, dict[str, object] | None]:
        """The event, and the case."""
        number = sides.concrete.number
        arguments = {name: number(part) for name, part, _ in leaves(self.event, self.event.type, EVENT)}
        text = f"event ({show_record(sides.concrete, self.event, self.event.type)})"
        case = self.case(
            sides, HANDLE_EVENT, Written(b"", text, {}), {**arguments, LENGTH: number(self.length)}
        )
        return text, case
