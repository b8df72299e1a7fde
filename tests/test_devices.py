"""Devices of guests under the VMM: what they reach as memory and devices change hands."""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import (
    ENGINE,
    ENGINE_COPY,
    ENGINE_FAULT,
    MEMORY,
    PAGE_SIZE,
    hypercall,
    output_of,
    program,
    say,
    session_of,
)

from fastmodel import FastEngine
from refmodel.model import Model

PAGE = 0x20  # a page of each guest
READ_BLOCKED, WRITE_BLOCKED, NO_CONTEXT = 6, 5, 2
RETIRED = 4


def reasons(machine: Any) -> list[int]:
    """Those of the faults that are recorded."""
    return [record >> 32 & 0xFF for record in machine.FAULT_RECORD.values() if record >> 63]


def dma(model: Model, machine: Any, device: int, page: int) -> tuple[bool, int]:
    """Whether a device can write to a page, and the reason of the last fault if not."""
    written = model.functions["dma_write"](machine, device, page * PAGE_SIZE, 0x1234)
    found = [*reasons(machine), 0]
    model.functions["collect_faults"](machine)
    return written, found[0]


def test_the_engine_copies_within_its_guest(model: Model) -> None:
    text = f"mov byte [0x20000], 0x41\n{program(0x20000, 0x21000)}\nmov al, [0x21000]\nout 0xe9, al\n{say(ENGINE_COPY)}"
    assert output_of(model, text) == {1: "A1"}


def test_code_that_the_engine_replaces_is_new_code(model: Model) -> None:
    """In the fast model too, which has decoded it before."""
    old, new = ("mov al, 0x41", "mov al, 0x42")
    copied = "lea rbx, [rel new]\nlea rcx, [rel old]"
    ports = "mov dx, 0xd00\nmov eax, ebx\nout dx, eax\nmov dx, 0xd04\nmov eax, ecx\nout dx, eax"
    start = f"mov dx, {ENGINE_COPY}\nmov eax, 1\nout dx, eax"
    body = f"align 8\nold: {old}\nout 0xe9, al\nret\nalign 8\nnew: {new}\nout 0xe9, al\nret"
    text = f"call old\n{copied}\n{ports}\n{start}\ncall old\ncall old\nhlt\n{body}"
    assert output_of(model, text) == {1: "ABB"}
    session, written = session_of(model, text)
    session.run(20_000, FastEngine(model.program, session.machine).run_guest)
    assert written == {1: "ABB"}


def test_a_copy_stops_where_memory_ends(model: Model) -> None:
    text = f"{program(0x20000, MEMORY - 16, 8)}\n{say(ENGINE_COPY)}\n{say(ENGINE_FAULT)}"
    assert output_of(model, text) == {1: f"2{WRITE_BLOCKED}"}


def test_engines_reach_their_own_guests(model: Model) -> None:
    session, _ = session_of(model, "", "")
    frames = {n: guest.frames[PAGE] for n, guest in session.guests.items()}
    for guest, device in ENGINE.items():
        place = model.functions["dma_translate"](session.machine, device, PAGE * PAGE_SIZE, 0)
        assert place == frames[guest] * PAGE_SIZE


def test_a_device_that_nobody_has_reaches_nothing(model: Model) -> None:
    session, _ = session_of(model, "")
    assert dma(model, session.machine, 3 << 3, PAGE) == (False, NO_CONTEXT)
    assert dma(model, session.machine, 0x100, PAGE) == (False, 1)  # a bus without a context table


def test_a_page_given_back_is_out_of_the_engines_reach(model: Model) -> None:
    """The translation was cached: without the invalidation the engine would write to a free frame."""
    begin = f"{program(0x20000, 0x20000)}\n{say(ENGINE_COPY)}\n{hypercall(3, PAGE)}"
    text = f"{begin}\n{program(0x21000, 0x20000)}\n{say(ENGINE_COPY)}\n{say(ENGINE_FAULT)}"
    assert output_of(model, text) == {1: f"10{WRITE_BLOCKED}"}


def test_a_page_is_not_released_before_the_iotlb_is_invalidated(model: Model) -> None:
    session, _ = session_of(model, "")
    m, f = session.machine, model.functions
    frame = session.guests[1].frames[PAGE]
    place = m.REVERSE_MAP[frame]
    assert f["unmap"](m, place >> 9 & (1 << 40) - 1, place & 0x1FF)
    assert f["disclaim"](m, frame)
    for cpu in range(m.LAST_CPU + 1):
        assert f["invalidate"](m, cpu, 1)
    assert not f["release"](m, frame)
    assert f["invalidate_domain"](m, m.VM_DOMAIN[1])
    assert f["release"](m, frame)


def test_a_device_that_is_handed_over_changes_sides(model: Model) -> None:
    session, _ = session_of(model, "", "")
    m = session.machine
    frames = {n: guest.frames[PAGE] * PAGE_SIZE for n, guest in session.guests.items()}
    assert dma(model, m, ENGINE[1], PAGE) == (True, 0)
    assert model.functions["pass_device"](m, 1, 2)
    m.PHYSICAL.write_64(frames[1], 0)
    assert dma(model, m, ENGINE[1], PAGE) == (True, 0)
    assert m.PHYSICAL.read_64(frames[1]) == 0
    assert m.PHYSICAL.read_64(frames[2]) == 0x1234


def test_between_two_owners_a_device_reaches_nothing(model: Model) -> None:
    session, _ = session_of(model, "", "")
    m, f = session.machine, model.functions
    assert dma(model, m, ENGINE[1], PAGE) == (True, 0)
    assert f["detach"](m, ENGINE[1])
    assert dma(model, m, ENGINE[1], PAGE) == (True, 0)  # the context is still cached
    assert not f["release_device"](m, ENGINE[1])
    assert f["invalidate_context"](m, ENGINE[1])
    assert dma(model, m, ENGINE[1], PAGE) == (False, NO_CONTEXT)


def test_a_guest_passes_its_engine_to_another(model: Model) -> None:
    giver = f"{hypercall(5, 2)}\n{program(0x20000, 0x21000)}\nmov al, 0x67\nout 0xe9, al"
    taker = f"{hypercall(1, 0)}\nmov byte [0x20000], 0x42\n{program(0x20000, 0x21000)}\nmov al, [0x21000]\nout 0xe9, al"
    assert output_of(model, giver, taker) == {1: "g", 2: "B"}


def test_a_domain_is_closed_after_its_devices_are_gone(model: Model) -> None:
    session, _ = session_of(model, "", f"here: {hypercall(1, 0)}\njmp here")
    m, f = session.machine, model.functions
    domain = m.VM_DOMAIN[1]
    assert domain != 0
    assert not f["close_domain"](m, 1)
    session.run(1000)
    assert m.VM_STATE[1] == RETIRED
    assert m.DOMAIN_OWNER[domain] == 0
    assert dma(model, m, ENGINE[1], PAGE) == (False, NO_CONTEXT)


@pytest.mark.parametrize(
    ("address", "data", "reason"),
    [
        (0xFEE00000, 2, 0x25),  # compatibility format
        (0xFEE00010 | 0x42 << 5, 0, 0x26),  # the entry of the other guest's engine
        (0xFEE00010 | 0x41 << 5, 0, 0),
    ],
)
def test_an_engine_sends_its_own_interrupt_only(model: Model, address: int, data: int, reason: int) -> None:
    session, _ = session_of(model, "", "")
    m = session.machine
    sent = model.functions["request_interrupt"](m, ENGINE[1], address, data)
    assert sent == (reason == 0)
    assert m.INTERRUPT_REQUEST[0x41] == sent
    assert reasons(m) == ([reason] if reason else [])
