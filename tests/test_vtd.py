"""VT-d on the reference: translation, faults, invalidation and interrupts, with values from the VT-d specification."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from refmodel.model import Model
from refmodel.runtime import Abort

READ, WRITE = 0, 1
R, W, LARGE = 1, 2, 0x80
PRESENT, FPD, ATS, PASS_THROUGH = 1, 2, 1 << 2, 2 << 2
WIDTH_39, WIDTH_48 = 1, 2
DOMAIN = 0x123
SIZE = 1 << 20  # of memory
ROOTS, CONTEXTS, INTERRUPTS = 0x10000, 0x11000, 0x12000
TABLES = {4: 0x20000, 3: 0x21000, 2: 0x22000, 1: 0x23000}
DEVICE = 0x0312  # bus 3, device 2, function 2
PAGE = 0x12_3456_7000
FRAME = 0x40000

# VT-d 10.4.5: TES, RTPS, IRES, IRTPS
REMAPPING_ON = 1 << 31 | 1 << 30 | 1 << 25 | 1 << 24
# VT-d 10.4.14: the high half of a record
FAULT, IS_READ = 1 << 63, 1 << 62


def index(address: int, level: int) -> int:
    return address >> 12 + 9 * (level - 1) & 0x1FF


def place(address: int, level: int) -> int:
    return TABLES[level] + 8 * index(address, level)


def context_place(device: int = DEVICE) -> int:
    return CONTEXTS + 16 * (device & 0xFF)


def set_context(machine: Any, low: int, high: int, device: int = DEVICE) -> None:
    machine.PHYSICAL.write_64(context_place(device), low)
    machine.PHYSICAL.write_64(context_place(device) + 8, high)


@pytest.fixture
def m(model: Model) -> Any:
    """Remapping is on; PAGE of the device leads to FRAME, for reads and writes."""
    machine = model.machine(SIZE)
    machine.GLOBAL_STATUS = REMAPPING_ON
    machine.ROOT_TABLE_ADDRESS = ROOTS
    machine.INTERRUPT_TABLE_ADDRESS = INTERRUPTS | 7  # 2^8 entries
    machine.PHYSICAL.write_64(ROOTS + 16 * (DEVICE >> 8), CONTEXTS | PRESENT)
    set_context(machine, TABLES[4] | PRESENT, DOMAIN << 8 | WIDTH_48)
    for level in (4, 3, 2):
        machine.PHYSICAL.write_64(place(PAGE, level), TABLES[level - 1] | R | W)
    machine.PHYSICAL.write_64(place(PAGE, 1), FRAME | R | W)
    return machine


@dataclass(frozen=True)
class Outcome:
    """Where an access goes, or the reason why it is blocked."""

    physical: int | None = None
    reason: int | None = None


def translate(
    model: Model, m: Any, access: int = READ, address: int = PAGE | 0x128, device: int = DEVICE
) -> Outcome:
    try:
        return Outcome(model.functions["dma_translate"](m, device, address, access))
    except Abort as abort:
        return Outcome(reason=abort.value.reason)


# --- contexts.  VT-d 9.1, 9.3, appendix A ---


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


# --- faults.  VT-d 7.2, 10.4.9, 10.4.14 ---


def records(m: Any) -> list[tuple[int, int]]:
    """The fault records that are in use: information and high half."""
    return [(m.FAULT_INFORMATION[n], m.FAULT_RECORD[n]) for n in range(8) if m.FAULT_RECORD[n] >> 63]


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


# --- invalidation.  VT-d 6.5.2 ---


def forget_all(model: Model, m: Any) -> None:
    model.functions["invalidate_contexts"](m, 1 | 1 << 4)
    model.functions["invalidate_translations"](m, 2 | 1 << 4 | 3 << 6, 0)


def iotlb(model: Model, m: Any, granularity: int, domain: int = 0, page: int = 0) -> None:
    model.functions["invalidate_translations"](m, 2 | granularity << 4 | 3 << 6 | domain << 16, page)


def contexts(model: Model, m: Any, granularity: int, source: int = 0, domain: int = 0, mask: int = 0) -> None:
    model.functions["invalidate_contexts"](m, 1 | granularity << 4 | domain << 16 | source << 32 | mask << 48)


def remap(m: Any) -> None:
    """PAGE leads to the next frame, as soon as the hardware notices."""
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME + 0x1000 | R | W)


@pytest.mark.parametrize(
    ("granularity", "domain", "page", "notices"),
    [
        (1, 0, 0, True),  # global
        (2, DOMAIN, 0, True),
        (2, DOMAIN + 1, 0, False),
        (3, DOMAIN, PAGE, True),
        (3, DOMAIN, PAGE + 0x1000, False),
        (3, DOMAIN + 1, PAGE, False),
        (3, DOMAIN, PAGE | 1, True),  # two pages
    ],
)
def test_translations_stay_until_invalidated(
    model: Model, m: Any, granularity: int, domain: int, page: int, notices: bool
) -> None:
    assert translate(model, m, address=PAGE).physical == FRAME
    remap(m)
    assert translate(model, m, address=PAGE).physical == FRAME
    iotlb(model, m, granularity, domain, page)
    assert translate(model, m, address=PAGE).physical == FRAME + (0x1000 if notices else 0)


@pytest.mark.parametrize(
    ("granularity", "source", "domain", "mask", "notices"),
    [
        (1, 0, 0, 0, True),
        (2, 0, DOMAIN, 0, True),
        (3, DEVICE, DOMAIN, 0, True),
        (3, DEVICE + 8, DOMAIN, 0, False),
        (3, DEVICE ^ 1, DOMAIN, 3, True),  # all functions of the device
    ],
)
def test_contexts_stay_until_invalidated(
    model: Model, m: Any, granularity: int, source: int, domain: int, mask: int, notices: bool
) -> None:
    assert translate(model, m).physical is not None
    set_context(m, 0, 0)
    assert translate(model, m).physical is not None
    contexts(model, m, granularity, source, domain, mask)
    assert translate(model, m) == (Outcome(reason=2) if notices else Outcome(FRAME | 0x128))


def test_devices_of_one_domain_share_translations(model: Model, m: Any) -> None:
    """VT-d 6.2.1: the tag is the domain, so tables that differ within a domain are software's mistake."""
    other = DEVICE + 1
    set_context(m, 0x30000 | PRESENT, DOMAIN << 8 | WIDTH_48, other)
    assert translate(model, m, device=other) == Outcome(reason=6)
    translate(model, m)
    assert translate(model, m, device=other) == Outcome(FRAME | 0x128)


def test_faults_are_not_cached(model: Model, m: Any) -> None:
    """VT-d 6.1, without caching mode."""
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    assert translate(model, m) == Outcome(reason=6)
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME | R)
    assert translate(model, m) == Outcome(FRAME | 0x128)


# --- interrupts.  VT-d 5.1, 9.10 ---

REMAPPABLE, SHV = 0xFEE00010, 8
VECTOR = 0x51
BY_SOURCE, BY_BUS = 1 << 18, 2 << 18


def set_irte(m: Any, number: int, low: int, high: int) -> None:
    m.PHYSICAL.write_64(INTERRUPTS + 16 * number, low)
    m.PHYSICAL.write_64(INTERRUPTS + 16 * number + 8, high)


def irte(vector: int = VECTOR, destination: int = 3) -> int:
    return PRESENT | vector << 16 | destination << 40


def message(number: int) -> int:
    """The address for an interrupt of the table, without a subhandle."""
    return REMAPPABLE | (number & 0x7FFF) << 5 | (number >> 15) << 2


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


def test_a_blocked_interrupt_is_recorded(model: Model, m: Any) -> None:
    assert not model.functions["request_interrupt"](m, DEVICE, message(9), 0)
    assert records(m) == [(9 << 48, FAULT | 0x22 << 32 | DEVICE)]


@pytest.mark.parametrize(
    ("descriptor", "notices"), [(4, True), (4 | 1 << 4 | 9 << 32, True), (4 | 1 << 4 | 8 << 32, False)]
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
