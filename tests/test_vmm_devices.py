"""How the VMM gives devices to guests and takes them: domains, registers, messages to the remapping hardware."""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import (
    ENGINE,
    ENGINE_COPY,
    ENGINE_INTERRUPT,
    MEMORY,
    PAGE_SIZE,
    hypercall,
    output_of,
    program,
    say,
    session_of,
)

from refmodel.model import Model

FREE, DATA = 1, 2
LIVE, DYING = 1, 2
NO_DOMAIN = 0
DMA_REMAPPING, INTERRUPT_REMAPPING = 1 << 31, 1 << 25
VM = 1


@pytest.fixture
def m(model: Model) -> Any:
    """A machine with two guests, each with an engine."""
    return session_of(model, "", "")[0].machine


# --- remapping ---


@pytest.mark.parametrize(
    "status", [DMA_REMAPPING, INTERRUPT_REMAPPING, DMA_REMAPPING | INTERRUPT_REMAPPING, 0]
)
def test_remapping_is_turned_on_once(model: Model, status: int) -> None:
    """The tables in use are not replaced."""
    m = model.machine(1 << 12)
    for frame in (5, 6):
        m.FRAME_KIND[frame], m.FRAME_CLEAN[frame] = FREE, True
    m.GLOBAL_STATUS = status
    assert model.functions["enable_remapping"](m, 5, 6) == (status == 0)


def test_the_vmms_descriptors_have_types(model: Model, m: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """VT-d 6.5.2.1, 6.5.2.3, 6.5.2.7: 1 for contexts, 2 for translations, 4 for interrupts."""
    given: list[int] = []
    for name in ("invalidate_contexts", "invalidate_translations", "invalidate_interrupt_entries"):
        monkeypatch.setitem(model.namespace, name, lambda _m, descriptor, *_: given.append(descriptor & 0xF))
    model.functions["invalidate_context"](m, ENGINE[1])
    model.functions["invalidate_domain"](m, m.VM_DOMAIN[1])
    model.functions["invalidate_interrupt"](m, ENGINE[1])
    assert given == [1, 2, 4]


# --- domains ---


@pytest.mark.parametrize("start", [0, 100, 0xFFF0])
def test_a_domain_that_nobody_has_is_found(model: Model, start: int) -> None:
    """Of the 32 that follow; number 0 is none."""
    m = model.machine(1 << 12)
    numbers = [(start + n) & 0xFFFF for n in range(1, 80)]
    m.DOMAIN_OWNER.update({number: VM for number in numbers if number != NO_DOMAIN})
    for free in numbers[:32]:
        m.DOMAIN_OWNER[free], m.NEXT_DOMAIN = 0, start
        assert model.functions["find_domain"](m) == free  # none, if that is 0
        m.DOMAIN_OWNER[free], m.NEXT_DOMAIN = VM if free != NO_DOMAIN else 0, start
        assert model.functions["find_domain"](m) == NO_DOMAIN


# --- devices ---


def test_only_a_guest_that_is_alive_gets_a_device(model: Model, m: Any) -> None:
    m.VM_STATE[VM] = DYING
    assert not model.functions["assign_device"](m, 0x100, VM)
    m.VM_STATE[VM] = LIVE
    assert model.functions["assign_device"](m, 0x100, VM)


def test_an_engine_is_given_with_its_message(model: Model) -> None:
    """The interrupt arrives once: what is read is gone."""
    text = f"{say(ENGINE_INTERRUPT)}\n{program(0x20000, 0x21000)}\n{say(ENGINE_INTERRUPT)}\n{say(ENGINE_INTERRUPT)}"
    assert output_of(model, text) == {1: "010"}


def test_the_message_of_an_engine_goes_to_its_own_entry(m: Any) -> None:
    """VT-d 5.1.2.2: FEEh, remappable format, the number of the entry, which is the vector's."""
    for guest, device in ENGINE.items():
        assert m.ENGINE_MESSAGE[device] == 0xFEE << 20 | (0x40 + guest) << 5 | 1 << 4


def test_a_device_forgets_what_its_guest_has_programmed(model: Model) -> None:
    text = f"mov dx, 0xd10\nmov eax, 5\nout dx, eax\n{program(0x20000, MEMORY - 8, 2)}\nhere: jmp here"
    session, _ = session_of(model, text, "")
    session.run(40)
    m, device = session.machine, ENGINE[1]
    registers = (m.ENGINE_SOURCE, m.ENGINE_DESTINATION, m.ENGINE_MOVED, m.ENGINE_MESSAGE_DATA, m.DEVICE_FAULT)
    assert [one[device] for one in registers] == [0x20000, MEMORY - 8, 1, 5, 5]
    message = m.ENGINE_MESSAGE[device]
    assert model.functions["take_device"](m, device)
    assert [one[device] for one in (*registers, m.ENGINE_MESSAGE)] == [0] * 6
    assert message != 0


def test_a_device_without_a_vector_has_no_interrupt_to_take(model: Model, m: Any) -> None:
    device = 0x100
    assert model.functions["assign_device"](m, device, VM)
    assert model.functions["take_device"](m, device)
    assert m.INTERRUPT_INVALIDATED_AT[device] == 0
    assert m.CONTEXT_INVALIDATED_AT[device] != 0


def test_a_guest_without_devices_passes_none(model: Model, m: Any) -> None:
    """Least of all the first device there is, which is another's."""
    assert model.functions["take_device"](m, ENGINE[1])
    assert model.functions["assign_device"](m, 0, 2)
    m.ENGINE_SOURCE[0] = 0x1234
    assert not model.functions["pass_device"](m, 1, 2)
    assert (m.DEVICE_OWNER[0], m.ENGINE_SOURCE[0]) == (2, 0x1234)


def test_a_copy_ends_at_the_first_access_that_is_refused(model: Model) -> None:
    """Its source begins below a page that the guest has: what is behind that is not copied."""
    given_back = hypercall(3, 0x20)
    text = f"{given_back}\n{program(0x21000 - 8, 0x22000, 2)}\n{say(ENGINE_COPY)}"
    assert output_of(model, text) == {1: "0"}


@pytest.mark.parametrize("device", [ENGINE[1], 0x8000 | ENGINE[1], 0x00FF])
def test_blocked_requests_are_noted_by_device(model: Model, m: Any, device: int) -> None:
    """And what was noted of others stays."""
    m.DEVICE_FAULT[0] = m.DEVICE_FAULT[device ^ 0x8000] = 9
    assert not model.functions["dma_read"](m, device, MEMORY + PAGE_SIZE).succeeded
    model.functions["collect_faults"](m)
    assert m.DEVICE_FAULT[device] in (1, 2, 6)  # no root entry, no context, no right to read
    assert (m.DEVICE_FAULT[0], m.DEVICE_FAULT[device ^ 0x8000]) == (9, 9)
    assert all(record == 0 for record in m.FAULT_RECORD.values())
