"""Interrupts that arrive between two instructions, and the exits that are due there.  SDM 3A 6.8, 3C 26.2, 26.5.1

What is delivered is noted instead of delivered: `test_events.py` is about delivery.
"""

from __future__ import annotations

from typing import Any

import pytest

from refmodel.model import Model
from refmodel.runtime import Abort

IF, ONE = 1 << 9, 2
ACTIVE, HALTED, SHUTDOWN, WAIT_FOR_SIPI = range(4)
STI, MOV_SS, NMIS = 1, 2, 8  # interruptibility: what blocks.  SDM 3C table 25-3
INTERRUPT_EXITING, NMI_EXITING, TIMER = 1 << 0, 1 << 3, 1 << 6  # pin-based controls.  SDM 3C table 25-5
INTERRUPT_WINDOW, NMI_WINDOW, TPR_SHADOW, SECONDARY = 1 << 2, 1 << 22, 1 << 21, 1 << 31  # SDM 3C table 25-6
APIC_ACCESSES = 1 << 0  # secondary.  SDM 3C table 25-7
ACKNOWLEDGE = 1 << 15  # exit.  SDM 3C table 25-13
VALID = 1 << 31
VECTOR = 0x41


@pytest.fixture
def delivered(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The vectors and types of what is delivered to the guest, or on the bare machine."""
    events: list[tuple[int, int]] = []
    monkeypatch.setitem(
        model.namespace, "deliver_exception", lambda _m, event: events.append((event.vector, event.kind))
    )
    return events


@pytest.fixture
def m(model: Model) -> Any:
    """A processor that is active, with interrupts on, in VMX non-root operation without any exiting control."""
    machine = model.machine(1 << 20)
    machine.RFLAGS, machine.IN_NON_ROOT = IF | ONE, True
    return machine


def arrives(model: Model, m: Any, what: str, *arguments: int) -> tuple[int, int] | None:
    """The reason and interruption information of the exit, if there is one."""
    try:
        model.functions[what](m, *arguments)
    except Abort as abort:
        return abort.value.reason, abort.value.interruption_information
    return None


@pytest.mark.parametrize("flags", [ONE, IF | ONE])
@pytest.mark.parametrize("activity", [ACTIVE, HALTED])
@pytest.mark.parametrize("acknowledged", [False, True])
def test_an_interrupt_exits_whatever_if_says(
    model: Model, m: Any, delivered: list[tuple[int, int]], flags: int, activity: int, acknowledged: bool
) -> None:
    """SDM 3C 26.2; the vector is known if the exit acknowledges it, 28.2.2"""
    m.RFLAGS, m.ACTIVITY_STATE = flags, activity
    m.vmcs.PIN_BASED_CONTROLS = INTERRUPT_EXITING
    m.vmcs.EXIT_CONTROLS = ACKNOWLEDGE if acknowledged else 0
    assert arrives(model, m, "external_interrupt", VECTOR) == (1, VALID | VECTOR if acknowledged else 0)
    assert (m.ACTIVITY_STATE, delivered) == (activity, [])


@pytest.mark.parametrize("in_guest", [False, True])
@pytest.mark.parametrize("activity", [ACTIVE, HALTED])
@pytest.mark.parametrize("flags", [ONE, IF | ONE])
def test_an_interrupt_that_does_not_exit_is_delivered_if_it_is_not_masked(
    model: Model, m: Any, delivered: list[tuple[int, int]], flags: int, activity: int, in_guest: bool
) -> None:
    m.RFLAGS, m.ACTIVITY_STATE, m.IN_NON_ROOT = flags, activity, in_guest
    m.vmcs.PIN_BASED_CONTROLS = 0 if in_guest else INTERRUPT_EXITING
    assert arrives(model, m, "external_interrupt", VECTOR) is None
    assert delivered == ([(VECTOR, 0)] if flags & IF else [])
    assert (ACTIVE if flags & IF else activity) == m.ACTIVITY_STATE


@pytest.mark.parametrize("what", ["external_interrupt", "non_maskable_interrupt"])
def test_the_processor_wakes_up_before_it_delivers(
    model: Model, m: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What exits during the delivery finds it active.  SDM 3C 28.3.4"""
    seen: list[int] = []
    monkeypatch.setitem(model.namespace, "deliver_exception", lambda m, _event: seen.append(m.ACTIVITY_STATE))
    m.ACTIVITY_STATE = HALTED
    assert arrives(model, m, what, *([VECTOR] if what == "external_interrupt" else [])) is None
    assert seen == [ACTIVE]


@pytest.mark.parametrize(
    ("blocking", "activity"), [(STI, ACTIVE), (MOV_SS, ACTIVE), (0, SHUTDOWN), (0, WAIT_FOR_SIPI)]
)
@pytest.mark.parametrize("control", [0, INTERRUPT_EXITING])
def test_an_interrupt_waits(
    model: Model, m: Any, delivered: list[tuple[int, int]], blocking: int, activity: int, control: int
) -> None:
    m.INTERRUPTIBILITY, m.ACTIVITY_STATE, m.vmcs.PIN_BASED_CONTROLS = blocking, activity, control
    assert arrives(model, m, "external_interrupt", VECTOR) is None
    assert (m.ACTIVITY_STATE, delivered) == (activity, [])


def test_blocked_nmis_do_not_block_interrupts(model: Model, m: Any, delivered: list[tuple[int, int]]) -> None:
    m.INTERRUPTIBILITY = NMIS
    arrives(model, m, "external_interrupt", VECTOR)
    assert delivered == [(VECTOR, 0)]


@pytest.mark.parametrize("flags", [ONE, IF | ONE])
@pytest.mark.parametrize(("blocking", "activity"), [(0, ACTIVE), (STI, ACTIVE), (0, HALTED), (0, SHUTDOWN)])
def test_an_nmi_exits_or_is_delivered(
    model: Model, m: Any, delivered: list[tuple[int, int]], flags: int, blocking: int, activity: int
) -> None:
    """Neither RFLAGS.IF nor STI holds it back; it blocks others.  SDM 3A 6.7.1, 3C 26.2"""
    m.RFLAGS, m.INTERRUPTIBILITY, m.ACTIVITY_STATE = flags, blocking, activity
    m.vmcs.PIN_BASED_CONTROLS = NMI_EXITING
    assert arrives(model, m, "non_maskable_interrupt") == (0, VALID | 2 << 8 | 2)
    assert (m.INTERRUPTIBILITY, m.ACTIVITY_STATE, delivered) == (blocking, activity, [])
    m.vmcs.PIN_BASED_CONTROLS = 0
    assert arrives(model, m, "non_maskable_interrupt") is None
    assert (m.INTERRUPTIBILITY, m.ACTIVITY_STATE, delivered) == (blocking | NMIS, ACTIVE, [(2, 2)])


def test_an_nmi_on_the_bare_machine(model: Model, m: Any, delivered: list[tuple[int, int]]) -> None:
    m.IN_NON_ROOT, m.vmcs.PIN_BASED_CONTROLS = False, NMI_EXITING
    assert arrives(model, m, "non_maskable_interrupt") is None
    assert (m.INTERRUPTIBILITY, delivered) == (NMIS, [(2, 2)])


@pytest.mark.parametrize(
    ("blocking", "activity"), [(NMIS, ACTIVE), (MOV_SS, ACTIVE), (0, WAIT_FOR_SIPI), (NMIS, HALTED)]
)
@pytest.mark.parametrize("control", [0, NMI_EXITING])
def test_an_nmi_waits(
    model: Model, m: Any, delivered: list[tuple[int, int]], blocking: int, activity: int, control: int
) -> None:
    m.INTERRUPTIBILITY, m.ACTIVITY_STATE, m.vmcs.PIN_BASED_CONTROLS = blocking, activity, control
    assert arrives(model, m, "non_maskable_interrupt") is None
    assert (m.INTERRUPTIBILITY, m.ACTIVITY_STATE, delivered) == (blocking, activity, [])


# --- what is due between instructions ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "blocking", "flags", "reason"),
    [
        ({}, 0, IF, None),
        ({"PIN_BASED_CONTROLS": TIMER}, 0, IF, 52),
        ({"PRIMARY_CONTROLS": NMI_WINDOW}, 0, 0, 8),
        ({"PRIMARY_CONTROLS": NMI_WINDOW}, STI, 0, None),
        ({"PRIMARY_CONTROLS": NMI_WINDOW}, MOV_SS, 0, None),
        ({"PRIMARY_CONTROLS": NMI_WINDOW}, NMIS, 0, None),
        ({"PRIMARY_CONTROLS": INTERRUPT_WINDOW}, 0, IF, 7),
        ({"PRIMARY_CONTROLS": INTERRUPT_WINDOW}, NMIS, IF, 7),
        ({"PRIMARY_CONTROLS": INTERRUPT_WINDOW}, 0, 0, None),
        ({"PRIMARY_CONTROLS": INTERRUPT_WINDOW}, STI, IF, None),
        ({"PRIMARY_CONTROLS": INTERRUPT_WINDOW}, MOV_SS, IF, None),
        # In the order of their priority.  SDM 3A 6.9, 3C 26.5.1, 26.7.2, 26.7.6
        ({"PRIMARY_CONTROLS": NMI_WINDOW | INTERRUPT_WINDOW}, 0, IF, 8),
        ({"PRIMARY_CONTROLS": NMI_WINDOW, "PIN_BASED_CONTROLS": TIMER}, 0, IF, 52),
    ],
)
def test_exits_that_are_due(
    model: Model, m: Any, fields: dict[str, int], blocking: int, flags: int, reason: int | None
) -> None:
    m.INTERRUPTIBILITY, m.RFLAGS = blocking, flags | ONE
    for name, value in fields.items():
        setattr(m.vmcs, name, value)
    found = arrives(model, m, "boundary_exits")
    assert (found and found[0]) == reason
    m.IN_NON_ROOT = False
    assert arrives(model, m, "boundary_exits") is None


@pytest.mark.parametrize(
    ("primary", "secondary", "threshold", "in_guest", "exits"),
    [
        (TPR_SHADOW | SECONDARY, APIC_ACCESSES, 3, True, True),
        (TPR_SHADOW | SECONDARY, APIC_ACCESSES, 2, True, False),
        (TPR_SHADOW | SECONDARY, 0, 3, True, False),
        (TPR_SHADOW, APIC_ACCESSES, 3, True, False),
        (SECONDARY, APIC_ACCESSES, 3, True, False),
        (TPR_SHADOW | SECONDARY, APIC_ACCESSES, 3, False, False),
    ],
)
def test_a_task_priority_below_its_threshold(
    model: Model, m: Any, primary: int, secondary: int, threshold: int, in_guest: bool, exits: bool
) -> None:
    """SDM 3C 27.7.7, 30.1.2: bits 7 to 4 of VTPR, which is at offset 80, against bits 3 to 0 of the threshold."""
    m.IN_NON_ROOT = in_guest
    m.vmcs.PRIMARY_CONTROLS, m.vmcs.SECONDARY_CONTROLS = primary, secondary
    m.vmcs.VIRTUAL_APIC_ADDRESS, m.vmcs.TPR_THRESHOLD = 0x2000, threshold
    m.PHYSICAL.write_8(0x2080, 0x2F)
    found = arrives(model, m, "boundary_exits")
    assert (found and found[0]) == (43 if exits else None)


@pytest.mark.parametrize(("in_guest", "control", "left"), [(True, TIMER, 4), (True, 0, 5), (False, TIMER, 5)])
def test_time_passes(model: Model, m: Any, in_guest: bool, control: int, left: int) -> None:
    """The timer counts down in VMX non-root operation, if it is activated.  SDM 3C 26.5.1"""
    m.IN_NON_ROOT, m.vmcs.PIN_BASED_CONTROLS = in_guest, control
    m.TSC, m.PREEMPTION_TIMER_VALUE = 100, 5
    model.functions["count_time"](m)
    assert (101, left) == (m.TSC, m.PREEMPTION_TIMER_VALUE)
