"""Theorems about events: the guest gets the one that the bare machine delivers, or is stopped where it would be lost.

`emulation.exceptions`: whatever event an instruction raises, and whatever the exception bitmap of the VMCS says,
although this VMM leaves it zero: where the event exits, the handler and the VM entry deliver it with what the processor
would have told the guest.

`emulation.deliveries`: whatever VM exit cuts the delivery of an event short, the guest does what the declared
differences say, and does not go on without the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from checks.emulation.claims import Emulation, witnesses
from checks.emulation.explain import EmulationExplainer
from checks.emulation.machine import REASON_WIDTH, Machine
from checks.emulation.runs import HANDLE_EVENT, SAVE, Handled
from checks.host_state.running import LONGEST
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Record, Value, fresh, leaves
from checks.theorem import Goal
from checks.trap.concrete import Written, show_record
from checks.trap.contract import FAULT, VM_EXIT
from checks.trap.explain import Sides
from checks.trap.operands import CODE_SIZE
from checks.trap.runs import Settings
from checks.trap.subject import next_rip
from checks.trap.theorems import Claim
from grammar import ir

GROUP = "emulation.events"
EXCEPTIONS, DELIVERIES = "exceptions", "deliveries"
CONTROLS = frozenset({"EXCEPTION_BITMAP", "PAGE_FAULT_ERROR_CODE_MASK", "PAGE_FAULT_ERROR_CODE_MATCH"})
"""What decides which exceptions exit: anything here."""
INFORMATION = "interruption_information"
"""The function that says an event in the format of the VMCS."""
LENGTH = "length"
"""In a case: the length of the instruction that raises the event."""
EVENTS = {FAULT: "event", VM_EXIT: "exit"}
"""In a case: what is raised, by the kind of abort."""
DELIVERED = ("vector", "kind", "has_error", "error")
"""What the delivery of an event reads of it; the rest has gone to CR2 or DR6 before."""
KINDS = range(3, 7)
"""The types of events that instructions raise.  SDM 3C 25.9.2"""
NMI = 2
"""The type of non-maskable interrupts.  SDM 3C 25.9.2"""
RF = 16
"""The bit of RFLAGS that holds breakpoints back.  SDM 3B 18.3.1.1"""
VALID = 31
"""The bit that says that an event was being delivered.  SDM 3C 25.9.3"""
CUT_SHORT = (0, 48, 49)
"""The reasons of exits that accesses to memory cause, and exceptions.  SDM 3C 28.2.4, 3D appendix C"""


def exception_goal(emulation: Emulation, program: ir.Program) -> Goal:
    """Any event, raised by an instruction of any length."""
    settings, terms = emulation.player.settings, emulation.player.settings.terms
    raised = _Raised.of(emulation, program, FAULT)
    kind = cast(Vector, raised.event.field("kind"))
    assumed = (
        _can_be_injected(settings, raised.handled, raised.event, raised.length),
        terms.disjunction(terms.equal(kind, one, 3) for one in KINDS),
    )
    return raised.goal(EXCEPTIONS, assumed)


def delivery_goal(emulation: Emulation, program: ir.Program) -> Goal:
    """Any exit that has a reason of `CUT_SHORT`, and says which event was being delivered."""
    settings, terms = emulation.player.settings, emulation.player.settings.terms
    raised = _Raised.of(emulation, program, VM_EXIT)
    reason = cast(Vector, raised.event.field("reason"))
    vectoring = cast(Vector, raised.event.field("vectoring_information"))
    assumed = (
        terms.disjunction(terms.equal(reason, one, REASON_WIDTH) for one in CUT_SHORT),
        terms.bit(vectoring, VALID, 32, 32),
        terms.negation(terms.equal(terms.extract(_interruption(raised), 10, 8), NMI, 3)),
        terms.negation(cast(Truth, raised.event.field("convertible"))),  # policy `ept_violations_exit`
        terms.bit(
            cast(Vector, settings.first.get("RFLAGS")), RF, 64, 64
        ),  # so that no breakpoint comes first
    )
    return raised.goal(DELIVERIES, assumed)


def _interruption(raised: _Raised) -> Vector:
    """The exception that exits: an NMI waits until the delivery is over."""
    return cast(Vector, raised.event.field("interruption_information"))


@dataclass(frozen=True, slots=True)
class _Raised:
    """What becomes of an instruction of any length that raises an arbitrary event, or leaves the guest with one."""

    emulation: Emulation
    event: Record
    length: Vector
    handled: Handled
    claim: Claim

    @classmethod
    def of(cls, emulation: Emulation, program: ir.Program, kind: str) -> _Raised:
        """An abort of that kind."""
        terms = emulation.player.settings.terms
        event = cast(Record, fresh(terms, EVENTS[kind], program.aborts[kind].type))
        length = cast(Vector, terms.symbol(LENGTH, 64))

        def begin(machine: Machine, cursor: Cursor, exits: Exits) -> None:
            code_size = machine.call(program.functions[CODE_SIZE], (), cursor, exits)
            cursor.state.set("NEXT_RIP", next_rip(terms, cursor.state, length, cast(Vector, code_size)))

        def body(machine: Machine, cursor: Cursor, exits: Exits) -> None:
            machine.abort(kind, True, event, cursor, exits)

        handled = emulation.player.handled(begin, body)
        assert handled is not None, "an exception exits if the bitmap says so"
        claim = emulation.claim(handled, emulation.player.bare(begin, body, handled), DELIVERED)
        return cls(emulation, event, length, handled, claim)

    def goal(self, name: str, assumed: Iterable[Truth]) -> Goal:
        """That the guest under the VMM and the bare machine go on alike."""
        settings, terms = self.emulation.player.settings, self.emulation.player.settings.terms
        every: list[Truth] = [
            self.handled.saved,
            *assumed,
            terms.compare("<", 0, self.length, 64),
            terms.compare("<=", self.length, LONGEST, 64),
            *(condition for _, condition in settings.instances(self.handled.run)),
        ]
        where = settings.program.functions[HANDLE_EVENT].span
        explainer = EventExplainer(settings, where, f"emulation.{name}", self.event, self.length)
        return Goal(
            f"emulation.{name}",
            terms.truth(terms.implies(self.handled.exited, self.claim.conclusion(terms))),
            tuple(terms.truth(one) for one in every if one is not True),
            tuple(witnesses(terms, self.handled)),
            partial(explainer.minimise, self.claim),
            partial(explainer.explain, self.claim),
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


GOALS: Mapping[str, Callable[[Emulation, ir.Program], Goal]] = {
    f"emulation.{EXCEPTIONS}": exception_goal,
    f"emulation.{DELIVERIES}": delivery_goal,
}
"""What makes each goal of the group."""


@dataclass(slots=True)
class EventExplainer(EmulationExplainer):
    """Shows the event, with a case in which an instruction of that length raises it."""

    event: Record
    length: Vector

    def symbols(self) -> tuple[Value, ...]:
        """The fields of the event."""
        return tuple(leaf for _, leaf, _ in leaves(self.event, self.event.type))

    def shown(self, sides: Sides) -> tuple[str, dict[str, object] | None]:
        """The event, and the case."""
        number = sides.concrete.number
        prefix = EVENTS[self.event.type.name]
        arguments = {name: number(part) for name, part, _ in leaves(self.event, self.event.type, prefix)}
        text = f"{prefix} ({show_record(sides.concrete, self.event, self.event.type)})"
        case = self.case(
            sides, HANDLE_EVENT, Written(b"", text, {}), {**arguments, LENGTH: number(self.length)}
        )
        return text, case
