"""How blocked requests of devices are recorded.  VT-d 7.2, 10.4.9, 10.4.14"""

from __future__ import annotations

from typing import Any

import pytest
from vtd_machine import (
    DEVICE,
    FAULT,
    FPD,
    FRAME,
    IS_READ,
    PAGE,
    PRESENT,
    TABLES,
    WIDTH_48,
    R,
    W,
    machine_with_remapping,
    place,
    records,
    set_context,
)

from refmodel.model import Model


@pytest.fixture
def m(model: Model) -> Any:
    return machine_with_remapping(model)


def test_a_blocked_read_is_recorded(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME | W)
    assert not model.functions["dma_read"](m, DEVICE, PAGE | 0x128).succeeded
    assert records(m) == [(PAGE, FAULT | IS_READ | 6 << 32 | DEVICE)]
    assert m.FAULT_STATUS == 2  # PPF, and FRI 0


def test_a_blocked_write_is_recorded_and_changes_nothing(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME | R)
    assert not model.functions["dma_write"](m, DEVICE, PAGE | 0x128, 0x1234)
    assert m.PHYSICAL.read_64(FRAME | 0x128) == 0
    assert records(m) == [(PAGE, FAULT | 5 << 32 | DEVICE)]


@pytest.mark.parametrize("low", [FPD, TABLES[4] | PRESENT | FPD | 1 << 4, TABLES[4] | PRESENT | FPD])
def test_faults_are_not_recorded_where_processing_is_disabled(model: Model, m: Any, low: int) -> None:
    """VT-d 9.3: FPD counts even in an entry that is not present."""
    set_context(m, low, WIDTH_48)
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    assert not model.functions["dma_read"](m, DEVICE, PAGE).succeeded
    assert records(m) == []


def test_a_fault_that_finds_no_record_is_an_overflow(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    for _ in range(9):
        model.functions["dma_read"](m, DEVICE, PAGE)
    assert len(records(m)) == 8
    assert m.FAULT_STATUS == 3  # PPF, PFO
    model.functions["clear_fault_record"](m, 0)
    assert m.FAULT_STATUS == 3 | 1 << 8  # the first pending record is number 1 now
    for record in range(1, 8):
        model.functions["clear_fault_record"](m, record)
    assert m.FAULT_STATUS == 0
    model.functions["dma_read"](m, DEVICE, PAGE)
    assert len(records(m)) == 1


def test_after_an_overflow_nothing_is_recorded_until_all_records_are_empty(model: Model, m: Any) -> None:
    """VT-d 7.2.1.1"""
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    for _ in range(9):
        model.functions["dma_read"](m, DEVICE, PAGE)
    model.functions["clear_fault_record"](m, 0)
    model.functions["dma_read"](m, DEVICE, PAGE)
    assert len(records(m)) == 7


def test_an_emptied_record_is_no_overflow(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    for _ in range(2):
        model.functions["dma_read"](m, DEVICE, PAGE)
    model.functions["clear_fault_record"](m, 0)
    assert m.FAULT_STATUS == 2 | 1 << 8  # PPF, and the first pending record is number 1


def test_software_is_told_of_recorded_faults(model: Model, m: Any) -> None:
    """VT-d 7.3: by a fault event."""
    told: list[tuple[int, int, int]] = []
    m.listeners["device_fault"] = lambda *event: told.append(event)
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    model.functions["dma_read"](m, DEVICE, PAGE | 0x128)
    assert told == [(DEVICE, PAGE, 6)]
