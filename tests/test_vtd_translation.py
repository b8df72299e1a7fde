"""Which memory devices reach: contexts and second-level tables.  VT-d 3.6, 9.1, 9.3, 9.8, appendix A"""

from __future__ import annotations

import random
from typing import Any

import pytest
from vtd_machine import (
    ATS,
    CONTEXTS,
    DEVICE,
    DOMAIN,
    FRAME,
    LARGE,
    PAGE,
    PASS_THROUGH,
    PRESENT,
    READ,
    ROOTS,
    SIZE,
    TABLES,
    WIDTH_39,
    WIDTH_48,
    WRITE,
    Outcome,
    R,
    W,
    forget_all,
    index,
    machine_with_remapping,
    place,
    records,
    set_context,
    translate,
)

from refmodel.memory import EndlessMemory
from refmodel.model import Model


@pytest.fixture
def m(model: Model) -> Any:
    return machine_with_remapping(model)


def test_an_address_is_translated(model: Model, m: Any) -> None:
    assert translate(model, m) == translate(model, m, WRITE) == Outcome(FRAME | 0x128)


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (TABLES[4], WIDTH_48, 2),  # not present
        (TABLES[4] | PRESENT | 1 << 4, WIDTH_48, 0xB),  # reserved bits
        (TABLES[4] | PRESENT | 1 << 45, WIDTH_48, 0xB),  # beyond the width of addresses
        (TABLES[4] | PRESENT, WIDTH_48 | 1 << 7, 0xB),
        (TABLES[4] | PRESENT, WIDTH_48 | 1 << 24, 0xB),
        (TABLES[4] | PRESENT | ATS, WIDTH_48, 3),  # there are no device TLBs
        (TABLES[4] | PRESENT | 3 << 2, WIDTH_48, 3),
        (TABLES[4] | PRESENT, 0, 3),  # 30 bits
        (TABLES[4] | PRESENT, 3, 3),  # 57 bits
    ],
)
def test_contexts_that_block(model: Model, m: Any, low: int, high: int, reason: int) -> None:
    set_context(m, low, high)
    assert translate(model, m) == Outcome(reason=reason)


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (CONTEXTS, 0, 1),
        (CONTEXTS | PRESENT | 2, 0, 0xA),
        (CONTEXTS | PRESENT | 1 << 60, 0, 0xA),
        (CONTEXTS | PRESENT, 1, 0xA),
    ],
)
def test_root_entries_that_block(model: Model, m: Any, low: int, high: int, reason: int) -> None:
    m.PHYSICAL.write_64(ROOTS + 16 * 3, low)
    m.PHYSICAL.write_64(ROOTS + 16 * 3 + 8, high)
    assert translate(model, m) == Outcome(reason=reason)


def test_reserved_bits_of_contexts(model: Model, m: Any) -> None:
    """VT-d 9.3, for addresses of 40 bits."""
    low, high = TABLES[4] | PRESENT, DOMAIN << 8 | WIDTH_48
    for bit in range(64):
        set_context(m, low ^ 1 << bit, high)
        forget_all(model, m)
        assert (translate(model, m).reason == 0xB) == (bit in range(4, 12) or bit >= 40)
        set_context(m, low, high ^ 1 << bit)
        forget_all(model, m)
        assert (translate(model, m).reason == 0xB) == (bit == 7 or bit >= 24)


def test_reserved_bits_of_root_entries(model: Model, m: Any) -> None:
    """VT-d 9.1, for addresses of 40 bits: all of the high half."""
    for bit in range(64):
        m.PHYSICAL.write_64(ROOTS + 16 * 3, (CONTEXTS | PRESENT) ^ 1 << bit)
        m.PHYSICAL.write_64(ROOTS + 16 * 3 + 8, 0)
        forget_all(model, m)
        assert (translate(model, m).reason == 0xA) == (bit in range(1, 12) or bit >= 40)
        m.PHYSICAL.write_64(ROOTS + 16 * 3, CONTEXTS | PRESENT)
        m.PHYSICAL.write_64(ROOTS + 16 * 3 + 8, 1 << bit)
        forget_all(model, m)
        assert translate(model, m).reason == 0xA


def test_of_entries_that_are_not_present_nothing_is_reserved(model: Model, m: Any) -> None:
    """VT-d appendix A: reasons Ah and Bh are of entries that are present."""
    set_context(m, 1 << 4, 1 << 7)
    assert translate(model, m) == Outcome(reason=2)
    m.PHYSICAL.write_64(ROOTS + 16 * 3, 1 << 60)
    m.PHYSICAL.write_64(ROOTS + 16 * 3 + 8, 1)
    assert translate(model, m) == Outcome(reason=1)


def test_the_root_tables_address_has_52_bits(model: Model) -> None:
    """VT-d 10.4.6; both halves of the entry are there."""
    machine = machine_with_remapping(model, EndlessMemory(SIZE))
    machine.ROOT_TABLE_ADDRESS = ROOTS | 1 << 51
    machine.PHYSICAL.write_64((ROOTS | 1 << 51) + 16 * 3, CONTEXTS | PRESENT)
    assert translate(model, machine) == Outcome(FRAME | 0x128)
    machine.PHYSICAL.write_64((ROOTS | 1 << 51) + 16 * 3 + 8, 1)
    forget_all(model, machine)
    assert translate(model, machine) == Outcome(reason=0xA)


def test_other_devices_have_other_contexts(model: Model, m: Any) -> None:
    assert translate(model, m, device=DEVICE + 1) == Outcome(reason=2)
    assert translate(model, m, device=DEVICE + 0x100) == Outcome(reason=1)


def test_three_levels_translate_39_bits(model: Model, m: Any) -> None:
    set_context(m, TABLES[3] | PRESENT, DOMAIN << 8 | WIDTH_39)
    low = PAGE & (1 << 39) - 1
    assert translate(model, m, address=low) == Outcome(FRAME)
    for bit in range(39, 64):
        assert translate(model, m, address=low | 1 << bit) == Outcome(reason=4)


def test_four_levels_translate_48_bits(model: Model, m: Any) -> None:
    for bit in range(48, 64):
        assert translate(model, m, address=PAGE | 1 << bit) == Outcome(reason=4)


def test_all_48_bits_choose_the_page(model: Model, m: Any) -> None:
    for bit in range(39, 48):
        address = PAGE | 1 << bit
        assert translate(model, m, address=address) == Outcome(reason=6)
        m.PHYSICAL.write_64(place(address, 4), TABLES[3] | R | W)
        assert translate(model, m, address=address) == Outcome(FRAME)


def test_what_devices_do_has_64_bits_of_address(model: Model, m: Any) -> None:
    """VT-d 3.6: what is too wide is blocked with reason 4.  3.14: interrupts are requested at FEEx_xxxx only."""
    for bit in range(48, 64):
        assert not model.functions["dma_read"](m, DEVICE, PAGE | 1 << bit).succeeded
        assert not model.functions["dma_write"](m, DEVICE, PAGE | 1 << bit, 1)
        assert not model.functions["dma_write"](m, DEVICE, 0xFEE00010 | 1 << bit, 1)
        assert [high >> 32 & 0xFF for _, high in records(m)] == [4, 4, 4]
        for record in range(8):
            model.functions["clear_fault_record"](m, record)


def test_pass_through(model: Model, m: Any) -> None:
    set_context(m, PRESENT | PASS_THROUGH, DOMAIN << 8 | WIDTH_48)
    assert translate(model, m, WRITE, 0x5678) == Outcome(0x5678)
    for bit in range(40, 64):
        assert translate(model, m, WRITE, 1 << bit) == Outcome(reason=4)


def test_without_remapping_addresses_are_physical(model: Model, m: Any) -> None:
    m.GLOBAL_STATUS = 0
    assert translate(model, m) == Outcome(PAGE | 0x128)


# --- second-level tables.  VT-d 3.6, 9.8 ---


def expected(memory: dict[int, int], access: int, address: int) -> Outcome:
    """The walk of the specification over entries by place."""
    table = TABLES[4]
    for level in (4, 3, 2, 1):
        at = table + 8 * index(address, level)
        entry = memory.get(at, 0) if at < SIZE else (1 << 64) - 1
        if not entry >> access & 1:
            return Outcome(reason=5 if access == WRITE else 6)
        size = 1 << 12 + 9 * (level - 1)
        leaf = level == 1 or bool(level < 4 and entry & LARGE)
        reserved = 0xFFF << 40 | 1 << 11 | 1 << 62
        reserved |= (size - 1 & ~0xFFF) if leaf else (LARGE if level == 4 else 0)
        if entry & reserved:
            return Outcome(reason=0xC)
        if leaf:
            return Outcome(entry & 0xFF_FFFFFFFF & ~(size - 1) | address & size - 1)
        table = entry & 0xFF_FFFFF000
    raise AssertionError


@pytest.mark.parametrize("seed", range(3))
def test_walks_agree_with_the_specification(model: Model, m: Any, seed: int) -> None:
    rng = random.Random(seed)
    plain = {level: m.PHYSICAL.read_64(place(PAGE, level)) for level in TABLES}
    for _ in range(500):
        memory = {}
        for level, whole in plain.items():
            entry = whole & ~3 | rng.randrange(4) if rng.random() < 0.3 else whole
            if rng.random() < 0.25:
                entry ^= 1 << rng.choice([*range(2, 12), *range(12, 22), 30, 39, 40, 45, 51, 52, 62, 63])
            memory[place(PAGE, level)] = entry
            m.PHYSICAL.write_64(place(PAGE, level), entry)
        access, address = rng.randrange(2), PAGE | rng.randrange(0x1000)
        forget_all(model, m)
        assert translate(model, m, access, address) == expected(memory, access, address)


@pytest.mark.parametrize(("level", "size"), [(1, 1 << 12), (2, 1 << 21), (3, 1 << 30)])
def test_sizes_of_pages(model: Model, m: Any, level: int, size: int) -> None:
    m.PHYSICAL.write_64(place(PAGE, level), 3 * size | R | W | (LARGE if level > 1 else 0))
    assert translate(model, m).physical == 3 * size + (PAGE & size - 1) + 0x128


@pytest.mark.parametrize("bit", range(30, 52))
def test_the_frames_of_large_pages_have_52_bits(model: Model, m: Any, bit: int) -> None:
    """VT-d 9.8: bits 51..30 of an entry that maps 1 GiB, 51..21 of one that maps 2 MiB."""
    for level in (3, 2):
        frame = model.functions["second_level_frame"](m, 1 << bit | R | LARGE, PAGE, level)
        assert frame << 12 == 1 << bit | PAGE & (1 << 12 + 9 * (level - 1)) - 0x1000


@pytest.mark.parametrize("entry", [0, R, W, R | W])
def test_an_entry_leads_somewhere_if_it_permits_anything(model: Model, m: Any, entry: int) -> None:
    """VT-d 3.6: neither reads nor writes pass an entry that permits neither."""
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME | entry)
    passes = [translate(model, m, access).physical is not None for access in (READ, WRITE)]
    assert passes == [bool(entry & R), bool(entry & W)]
    assert model.functions["is_mapping"](m, entry) == any(passes)


def reserved_bits(level: int, *, leaf: bool) -> set[int]:
    """VT-d 9.8, for addresses of 40 bits, without snoop control and device TLBs."""
    in_page = range(12, 12 + 9 * (level - 1)) if leaf else ()
    return {11, 62, *range(40, 52), *in_page, *((7,) if level == 4 else ())}


@pytest.mark.parametrize(
    ("level", "leaf"), [(4, False), (3, False), (3, True), (2, False), (2, True), (1, True)]
)
def test_reserved_bits_of_entries(model: Model, m: Any, level: int, leaf: bool) -> None:
    large = LARGE if leaf and level > 1 else 0
    target = TABLES[level - 1] if not leaf else 0
    address_bits = () if leaf else range(12, 40)  # they would lead to no table
    reserved = set()
    for bit in (bit for bit in range(2, 64) if bit not in address_bits and (level == 4 or bit != 7)):
        m.PHYSICAL.write_64(place(PAGE, level), target | R | W | large | 1 << bit)
        forget_all(model, m)
        if translate(model, m).reason == 0xC:
            reserved.add(bit)
    assert reserved == reserved_bits(level, leaf=leaf)
