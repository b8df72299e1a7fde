"""States in which more happens than the instruction, or a fault goes another way: each an item and a value for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.fuzz.bases import CODE, MEMORY_SIZE, Bases
from checks.fuzz.values import flag_bits
from refmodel.model import Model

BASE = "guest-kernel"
BITFIELDS = {
    "PIN_BASED_CONTROLS": "PinBasedControls",
    "PRIMARY_CONTROLS": "PrimaryControls",
    "SECONDARY_CONTROLS": "SecondaryControls",
    "INTERRUPTIBILITY": "Interruptibility",
    "EPT_POINTER": "EptPointer",
}
VECTORS = 32
TASK_REGISTER = 7
# A breakpoint on the execution of the code's first byte needs DR0, which is 0 in the bases, and DR7.
BREAKPOINT = 0x401


@dataclass(frozen=True, slots=True)
class SpecialState:
    """An item of a case's state, and what it holds."""

    item: str
    value: int
    of_guests: bool  # of VMX non-root operation


def special_states(model: Model) -> tuple[SpecialState, ...]:
    """Controls with one bit inverted, exceptions that exit, a timer that has run down, tables that end too soon."""
    return tuple(_of_guests(model)) + tuple(_of_all())


def _of_guests(model: Model) -> Iterator[SpecialState]:
    machine = model.machine(MEMORY_SIZE)
    Bases(model).prepare(machine, BASE)
    for item, bitfield in BITFIELDS.items():
        before = getattr(machine.vmcs if hasattr(machine.vmcs, item) else machine, item)
        for bit in flag_bits(model.program, bitfield, frozenset()):
            yield SpecialState(item, before ^ bit, of_guests=True)
    for vector in range(VECTORS):
        yield SpecialState("EXCEPTION_BITMAP", 1 << vector, of_guests=True)
    yield SpecialState("EXCEPTION_BITMAP", (1 << VECTORS) - 1, of_guests=True)
    for count in range(3):
        yield SpecialState("PREEMPTION_TIMER_VALUE", count, of_guests=True)


def _of_all() -> Iterator[SpecialState]:
    for limit in (0, 0xE7, 0xEF):  # of the IDT: in the gates of #GP and #PF
        yield SpecialState("IDTR_LIMIT", limit, of_guests=False)
    yield SpecialState("IDTR_BASE", 1 << 63, of_guests=False)
    for limit in (7, 0xE):  # of the GDT: before the code segment of handlers, or in it
        yield SpecialState("GDTR_LIMIT", limit, of_guests=False)
    yield SpecialState(f"SEGMENT_LIMIT[{TASK_REGISTER}]", 3, of_guests=False)
    for value in (BREAKPOINT, BREAKPOINT | 2 << 16):  # on execution, or on something else
        yield SpecialState("DR7", value, of_guests=False)
    yield SpecialState("DR[0]", CODE, of_guests=False)
