"""EPT: walks against a walker written from the manual, and what violations report.  SDM 3C 29.3"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from refmodel.model import Model
from refmodel.runtime import Abort

READ, WRITE, EXECUTE = range(3)
R, W, X, LARGE, ACCESSED, DIRTY = 1, 2, 4, 0x80, 0x100, 0x200
WRITE_BACK = 6 << 3
VIOLATION, MISCONFIGURATION = 48, 49
TABLES = {4: 0x10000, 3: 0x11000, 2: 0x12000, 1: 0x13000}
SIZE = 1 << 20  # of memory
PAGE = 0x1_2345_6000
ORIGIN = 0x7000_1234  # the linear address that the accesses are for
ENABLE_EPT, ACTIVATE_SECONDARY = 1 << 1, 1 << 31


def index(address: int, level: int) -> int:
    return address >> 12 + 9 * (level - 1) & 0x1FF


def place(address: int, level: int) -> int:
    return TABLES[level] + 8 * index(address, level)


@pytest.fixture
def m(model: Model) -> Any:
    """A processor in VMX non-root operation; PAGE leads to frame 0x20 through full rights."""
    machine = model.machine(SIZE)
    machine.IN_NON_ROOT = True
    machine.vmcs.PRIMARY_CONTROLS, machine.vmcs.SECONDARY_CONTROLS = ACTIVATE_SECONDARY, ENABLE_EPT
    machine.vmcs.EPT_POINTER = TABLES[4] | 0x1E
    for level in (4, 3, 2):
        machine.PHYSICAL.write_64(place(PAGE, level), TABLES[level - 1] | R | W | X)
    machine.PHYSICAL.write_64(place(PAGE, 1), 0x20000 | R | W | X | WRITE_BACK)
    return machine


@dataclass(frozen=True)
class Outcome:
    """Where the byte lies, or the exit with what it reports."""

    physical: int | None = None
    reason: int | None = None
    qualification: int = 0


def translate(
    model: Model, m: Any, access: int, *, is_walk: bool = False, address: int = PAGE, rights: int = 7
) -> Outcome:
    """What the model does; `rights` are those of the guest's page: user, writable, executable."""
    page_rights = model.namespace["PageRights"](
        writable=bool(rights & 2), user=bool(rights & 1), executable=bool(rights & 4)
    )
    try:
        return Outcome(model.functions["ept_translate"](m, address, access, ORIGIN, is_walk, page_rights))
    except Abort as abort:
        value = abort.value
        assert value.physical_address == address
        assert value.linear_address == (ORIGIN if value.reason == VIOLATION else 0)
        return Outcome(reason=value.reason, qualification=value.qualification)


def is_misconfigured(entry: int, level: int) -> bool:
    """SDM 3C 29.3.3.1, for a physical-address width of 40; entries may permit execution only."""
    leaf = level == 1 or bool(level < 4 and entry & LARGE)
    reserved = entry & 0xFFF << 40
    if leaf:
        reserved |= entry & (1 << 12 + 9 * (level - 1)) - 1 & ~0xFFF
    else:
        reserved |= entry & (0xF8 if level == 4 else 0x78)
    return entry & 3 == W or bool(reserved) or (leaf and entry >> 3 & 7 in {2, 3, 7})


def expected(memory: dict[int, int], access: int, address: int) -> Outcome:
    """The manual's walk over entries by place, for an access that is no page walk.  No memory reads as ones."""
    table, rights = TABLES[4], 7
    for level in (4, 3, 2, 1):
        at = table + 8 * index(address, level)
        entry = memory.get(at, 0) if at < SIZE else (1 << 64) - 1
        rights &= entry
        if entry & 7 == 0:
            break
        if is_misconfigured(entry, level):
            return Outcome(reason=MISCONFIGURATION)
        if level == 1 or (level < 4 and entry & LARGE):
            if rights >> access & 1:
                mask = (1 << 12 + 9 * (level - 1)) - 1
                return Outcome(entry & 0xFF_FFFFFFFF & ~mask | address & mask)
            break
        table = entry & 0xFF_FFFFF000
    return Outcome(reason=VIOLATION, qualification=1 << access | rights << 3 | 0x180 | 0x600)


@pytest.mark.parametrize("seed", range(5))
def test_walks_agree_with_the_manual(model: Model, m: Any, seed: int) -> None:
    rng = random.Random(seed)
    plain = {level: m.PHYSICAL.read_64(place(PAGE, level)) for level in TABLES}
    for _ in range(500):
        check_walk(model, m, plain, rng)


def check_walk(model: Model, m: Any, plain: dict[int, int], rng: random.Random) -> None:
    memory = {}
    for level, whole in plain.items():
        entry = whole
        if rng.random() < 0.5:
            entry = entry & ~7 | rng.randrange(8)
        if rng.random() < 0.25:
            entry ^= 1 << rng.choice([*range(3, 12), *range(12, 22), 30, 39, 40, 45, 51, 52, 63])
        memory[place(PAGE, level)] = entry
        m.PHYSICAL.write_64(place(PAGE, level), entry)
    access, address = rng.randrange(3), PAGE | rng.randrange(0x1000)
    assert translate(model, m, access, address=address) == expected(memory, access, address)


@pytest.mark.parametrize(("level", "size"), [(1, 1 << 12), (2, 1 << 21), (3, 1 << 30)])
def test_sizes_of_pages(model: Model, m: Any, level: int, size: int) -> None:
    m.PHYSICAL.write_64(place(PAGE, level), 3 * size | R | W | X | WRITE_BACK | (LARGE if level > 1 else 0))
    assert translate(model, m, READ, address=PAGE | 0x123).physical == 3 * size + (PAGE & size - 1) + 0x123


@pytest.mark.parametrize("bit", range(30, 52))
def test_the_frames_of_large_pages_have_52_bits(model: Model, m: Any, bit: int) -> None:
    """SDM 3C tables 29-3, 29-5: bits 51..30 of an entry that maps 1 GiB, 51..21 of one that maps 2 MiB."""
    for level in (3, 2):
        found = model.functions["ept_page_place"](m, 1 << bit | R | LARGE, PAGE | 0x123, level)
        assert found == 1 << bit | (PAGE | 0x123) & (1 << 12 + 9 * (level - 1)) - 1


@pytest.mark.parametrize("level", [4, 3, 2, 1])
@pytest.mark.parametrize("access", [READ, WRITE])
def test_accessed_and_dirty_flags(model: Model, m: Any, access: int, level: int) -> None:
    m.vmcs.EPT_POINTER |= 1 << 6
    assert translate(model, m, access).physical == 0x20000
    dirty = DIRTY if access == WRITE and level == 1 else 0
    assert m.PHYSICAL.read_64(place(PAGE, level)) & (ACCESSED | DIRTY) == ACCESSED | dirty


def test_a_page_stays_dirty(model: Model, m: Any) -> None:
    """SDM 3C 29.3.5: the processor sets these flags, and software clears them."""
    m.vmcs.EPT_POINTER |= 1 << 6
    translate(model, m, WRITE)
    translate(model, m, READ)
    assert m.PHYSICAL.read_64(place(PAGE, 1)) & (ACCESSED | DIRTY) == ACCESSED | DIRTY


def test_without_their_control_no_flags_are_set(model: Model, m: Any) -> None:
    translate(model, m, WRITE)
    assert all(not m.PHYSICAL.read_64(place(PAGE, n)) & (ACCESSED | DIRTY) for n in TABLES)


def test_a_violation_sets_no_flags(model: Model, m: Any) -> None:
    m.vmcs.EPT_POINTER |= 1 << 6
    m.PHYSICAL.write_64(place(PAGE, 1), 0x20000 | R | X | WRITE_BACK)
    assert translate(model, m, WRITE).reason == VIOLATION
    assert all(not m.PHYSICAL.read_64(place(PAGE, n)) & (ACCESSED | DIRTY) for n in TABLES)


def test_page_walks_count_as_writes_where_flags_are_kept(model: Model, m: Any) -> None:
    """SDM 3C 29.3.3.2: such a violation has bits 0 and 1, and is not an access to the translated address."""
    m.PHYSICAL.write_64(place(PAGE, 1), 0x20000 | R | X | WRITE_BACK)
    assert translate(model, m, READ, is_walk=True).physical == 0x20000
    m.vmcs.EPT_POINTER |= 1 << 6
    for access in (READ, WRITE):
        outcome = translate(model, m, access, is_walk=True)
        assert outcome.reason == VIOLATION
        assert outcome.qualification & 0x1BF == 0b10101011


@pytest.mark.parametrize("rights", range(8))
def test_violations_tell_the_rights_of_the_linear_address(model: Model, m: Any, rights: int) -> None:
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    qualification = translate(model, m, READ, rights=rights).qualification
    assert qualification >> 9 & 7 == rights ^ 4  # user, writable, execute-disable


def test_outside_a_guest_the_address_is_physical(model: Model, m: Any) -> None:
    m.IN_NON_ROOT = False
    assert translate(model, m, WRITE).physical == PAGE


def test_without_ept_the_address_is_physical(model: Model, m: Any) -> None:
    m.vmcs.PRIMARY_CONTROLS = 0  # the secondary controls are not activated
    assert translate(model, m, WRITE).physical == PAGE
