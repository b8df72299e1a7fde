"""Interrupt remapping.  VT-d 5.1, 9.10"""

from __future__ import annotations

from typing import Any

import pytest
from vtd_machine import (
    BY_BUS,
    BY_SOURCE,
    DEVICE,
    FAULT,
    FPD,
    PRESENT,
    SHV,
    VECTOR,
    irte,
    machine_with_remapping,
    message,
    records,
    set_irte,
)

from refmodel.model import Model
from refmodel.runtime import Abort


@pytest.fixture
def m(model: Model) -> Any:
    return machine_with_remapping(model)


def request(model: Model, m: Any, address: int, data: int = 0, device: int = DEVICE) -> Any:
    """(vector, destination) of the interrupt, or the reason why it is blocked."""
    try:
        found = model.functions["remap_interrupt"](m, device, address, data)
        return found.vector, found.destination
    except Abort as abort:
        return abort.value.reason


def test_an_interrupt_is_remapped(model: Model, m: Any) -> None:
    set_irte(m, 9, irte(), BY_SOURCE | DEVICE)
    assert request(model, m, message(9)) == (VECTOR, 3)


def test_a_subhandle_is_added(model: Model, m: Any) -> None:
    set_irte(m, 9, irte(), BY_SOURCE | DEVICE)
    assert request(model, m, message(4) | SHV, 5) == (VECTOR, 3)
    assert request(model, m, message(4) | SHV, 5 | 1 << 16) == 0x20


def test_the_data_count_with_a_subhandle_only(model: Model, m: Any) -> None:
    """VT-d 5.1.2.2, 5.1.3: then their upper half is reserved."""
    set_irte(m, 9, irte(), BY_SOURCE | DEVICE)
    assert request(model, m, message(9), 0xFFFF0005) == (VECTOR, 3)
    for bit in range(16, 32):
        assert request(model, m, message(9) | SHV, 1 << bit) == 0x20


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (irte() & ~1, BY_SOURCE | DEVICE, 0x22),
        (irte() | 1 << 12, BY_SOURCE | DEVICE, 0x24),
        (irte() | 1 << 24, BY_SOURCE | DEVICE, 0x24),
        (irte() | 1 << 32, BY_SOURCE | DEVICE, 0x24),  # destinations are in bits 47..40
        (irte() | 1 << 15, BY_SOURCE | DEVICE, 0x24),  # there are no posted interrupts
        (irte(), 3 << 18 | DEVICE, 0x24),
        (irte(), BY_SOURCE | 1 << 20 | DEVICE, 0x24),
        (irte(), BY_SOURCE | DEVICE ^ 8, 0x26),
        (irte(), BY_BUS | 4 << 8 | 6, 0x26),
    ],
)
def test_entries_that_block(model: Model, m: Any, low: int, high: int, reason: int) -> None:
    set_irte(m, 9, low, high)
    assert request(model, m, message(9)) == reason


def test_reserved_bits_of_the_destination(model: Model, m: Any) -> None:
    """VT-d 9.10: without EIME an APIC id is in bits 47..40; with it, it has 32 bits."""
    for bit in range(32, 64):
        set_irte(m, 9, irte() | 1 << bit, BY_SOURCE | DEVICE)
        model.functions["invalidate_interrupt_entries"](m, 4)
        assert (request(model, m, message(9)) == 0x24) == (bit not in range(40, 48))


def test_destinations_of_32_bits(model: Model, m: Any) -> None:
    m.INTERRUPT_TABLE_ADDRESS |= 1 << 11  # EIME
    set_irte(m, 9, PRESENT | VECTOR << 16 | 0x89ABCDEF << 32, BY_SOURCE | DEVICE)
    assert request(model, m, message(9)) == (VECTOR, 0x89ABCDEF)


def test_of_an_entry_that_is_not_present_nothing_is_reserved(model: Model, m: Any) -> None:
    set_irte(m, 9, 1 << 12, 0)
    assert request(model, m, message(9)) == 0x22


@pytest.mark.parametrize("number", [256, 0x8000, 0xFFFF])
def test_an_index_beyond_the_table(model: Model, m: Any, number: int) -> None:
    assert request(model, m, message(number)) == 0x21


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15])
def test_sizes_of_the_interrupt_table(model: Model, m: Any, size: int) -> None:
    """VT-d 10.4.29: 2 ** (size + 1) entries; those here are not present, or beyond memory, which reads as ones."""
    m.INTERRUPT_TABLE_ADDRESS = 0x40000 | size
    last = (2 << size) - 1
    assert request(model, m, message(last)) == (0x22 if last < 0x8000 else 0x24)
    assert last == 0xFFFF or request(model, m, message(last + 1)) == 0x21


@pytest.mark.parametrize("low", [FPD, irte() | FPD | 1 << 12, irte() | FPD])
@pytest.mark.parametrize("processing_disabled", [True, False])
def test_interrupt_faults_are_recorded_unless_disabled(
    model: Model, m: Any, low: int, processing_disabled: bool
) -> None:
    """VT-d 9.10: FPD counts even in an entry that is not present."""
    set_irte(m, 9, low if processing_disabled else low & ~FPD, BY_SOURCE | DEVICE ^ 8)
    assert not model.functions["request_interrupt"](m, DEVICE, message(9), 0)
    assert len(records(m)) == (0 if processing_disabled else 1)


@pytest.mark.parametrize(
    ("qualifier", "ignored"),
    [(0, 0), (1, 4), (2, 6), (3, 7)],
    ids=["all bits", "bit 2", "bits 2:1", "bits 2:0"],
)
def test_the_qualifier_says_which_bits_of_the_function_count(
    model: Model, m: Any, qualifier: int, ignored: int
) -> None:
    set_irte(m, 9, irte(), BY_SOURCE | qualifier << 16 | DEVICE)
    for difference in range(8):
        allowed = difference & ~ignored == 0
        assert request(model, m, message(9), device=DEVICE ^ difference) == ((VECTOR, 3) if allowed else 0x26)


def test_without_validation_any_device_is_accepted(model: Model, m: Any) -> None:
    """VT-d 9.10: the source-id is not looked at."""
    set_irte(m, 9, irte(), DEVICE)
    for device in (0, DEVICE, DEVICE ^ 8, 0xFFFF):
        assert request(model, m, message(9), device=device) == (VECTOR, 3)


def test_each_index_has_its_entry(model: Model, m: Any) -> None:
    """Also among those that are cached."""
    for number in (9, 10):
        set_irte(m, number, irte(VECTOR + number), BY_SOURCE | DEVICE)
    for number in (9, 10, 9):
        assert request(model, m, message(number)) == (VECTOR + number, 3)


def test_a_range_of_buses_is_accepted(model: Model, m: Any) -> None:
    set_irte(m, 9, irte(), BY_BUS | 2 << 8 | 4)
    accepted = [bus for bus in range(7) if request(model, m, message(9), device=bus << 8) == (VECTOR, 3)]
    assert accepted == [2, 3, 4]


def test_compatibility_format(model: Model, m: Any) -> None:
    """VT-d 5.1.2.1, 10.4.5: blocked unless CFIS; without remapping it passes in any case."""
    address = 0xFEE05000  # destination 5
    assert request(model, m, address, 0x31) == 0x25
    m.GLOBAL_STATUS |= 1 << 23
    assert request(model, m, address, 0x31) == (0x31, 5)
    m.GLOBAL_STATUS = 0
    assert request(model, m, address, 0x02) == (2, 5)


def test_compatibility_format_is_blocked_with_wide_destinations(model: Model, m: Any) -> None:
    """VT-d 5.1.2.1"""
    m.GLOBAL_STATUS |= 1 << 23
    m.INTERRUPT_TABLE_ADDRESS |= 1 << 11
    assert request(model, m, 0xFEE05000, 0x31) == 0x25


@pytest.mark.parametrize("logical", [False, True])
def test_what_a_request_in_compatibility_format_says(model: Model, m: Any, logical: bool) -> None:
    """SDM 3A 11.11: bits 19..12 and 2 of the address, bits 10..0 of the data."""
    m.GLOBAL_STATUS = 0
    found = model.functions["remap_interrupt"](m, DEVICE, 0xFEEA5000 | logical << 2, 4 << 8 | 0xB1)
    assert (found.vector, found.delivery_mode) == (0xB1, 4)
    assert (found.destination, found.logical) == (0xA5, logical)


@pytest.mark.parametrize(
    ("address", "information", "reason"), [(message(9), 9 << 48, 0x26), (0xFEE05000, 0, 0x25)]
)
def test_a_record_has_the_index_if_there_is_one(
    model: Model, m: Any, address: int, information: int, reason: int
) -> None:
    """VT-d 10.4.14: a request in compatibility format has none."""
    set_irte(m, 9, irte(), BY_SOURCE | DEVICE ^ 8)
    assert not model.functions["request_interrupt"](m, DEVICE, address, 0)
    assert records(m) == [(information, FAULT | reason << 32 | DEVICE)]


def test_a_blocked_interrupt_is_recorded(model: Model, m: Any) -> None:
    assert not model.functions["request_interrupt"](m, DEVICE, message(9), 0)
    assert records(m) == [(9 << 48, FAULT | 0x22 << 32 | DEVICE)]


@pytest.mark.parametrize(
    ("descriptor", "notices"),
    [
        (4, True),
        (4 | 1 << 4 | 9 << 32, True),
        (4 | 1 << 4 | 8 << 32, False),
        (4 | 1 << 4 | 1 << 27 | 8 << 32, True),  # indices 8 and 9
        (4 | 1 << 4 | 16 << 27, True),  # all
    ],
)
def test_interrupt_entries_stay_until_invalidated(
    model: Model, m: Any, descriptor: int, notices: bool
) -> None:
    set_irte(m, 9, irte(), BY_SOURCE | DEVICE)
    assert request(model, m, message(9)) == (VECTOR, 3)
    set_irte(m, 9, 0, 0)
    assert request(model, m, message(9)) == (VECTOR, 3)
    model.functions["invalidate_interrupt_entries"](m, descriptor)
    assert request(model, m, message(9)) == (0x22 if notices else (VECTOR, 3))


def test_addresses_of_interrupts_are_no_memory(model: Model, m: Any) -> None:
    assert not model.functions["dma_read"](m, DEVICE, 0xFEE00010).succeeded
    assert not model.functions["dma_write"](m, DEVICE, 0xFEE00010, 1)
    assert records(m) == []
