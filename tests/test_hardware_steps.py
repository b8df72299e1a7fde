"""The proofs' model of what hardware caches and stores holds at least what the reference's hardware finds.

The hardware steps of `isolation` may be taken at any time. Were one to do less than hardware does, the proofs would
be about weaker hardware. SDM 3C 29.4 says what processors may cache, VT-d 6.2 what the remapping hardware may.
"""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import ENGINE, MEMORY

from checks.isolation.replay import with_caches
from refmodel.image import FLAT_ADDRESS, Image, Segment
from refmodel.model import Model
from refmodel.session import Session

VM, CPU, PAGE = 1, 0, 0x20
READ, WRITE, EXECUTE = range(3)
ACCESSED, DIRTY = 1 << 8, 1 << 9
LEVELS = (4, 3, 2, 1)
DEVICE, VECTOR = ENGINE[1], 0x41
GLOBALLY = 1 << 4


@pytest.fixture(scope="module", name="model")
def model_with_caches(model: Model) -> Model:
    """The reference, with what exists for the proofs only."""
    return with_caches(model.program)


@pytest.fixture
def m(model: Model) -> Any:
    """A machine whose processor executes the guest."""
    guests = [Image("guest", (Segment(FLAT_ADDRESS, b"\xf4", 1),), FLAT_ADDRESS) for _ in range(2)]
    machine = Session(model, guests, MEMORY, lambda _guest, _byte: None).machine
    model.functions["switch_to"](machine, VM)
    assert model.functions["enter_guest"](machine, CPU, VM)
    machine.IN_NON_ROOT = True
    return machine


def index(level: int) -> int:
    return PAGE >> 9 * (level - 1) & 0x1FF


def walk(m: Any) -> dict[int, int]:
    """The tables that a walk for the page passes, by level."""
    table, found = m.EPT_ROOT[VM], {}
    for level in LEVELS:
        found[level] = table
        table = m.PHYSICAL.read_64(table << 12 | index(level) << 3) >> 12 & (1 << 40) - 1
    return found


def translated(model: Model, m: Any, access: int) -> int:
    """The frame behind the page."""
    rights = model.namespace["PageRights"](writable=True, user=False, executable=True)
    place: int = model.functions["ept_translate"](m, PAGE << 12, access, PAGE << 12, False, rights)
    return place >> 12


# --- processors.  SDM 3C 29.4 ---


def walk_by_steps(model: Model, m: Any) -> None:
    """The steps that a walk for the page consists of."""
    f, tables = model.functions, walk(m)
    assert f["walk_root"](m, CPU)
    for level in (4, 3, 2):
        assert f["is_walking"](m, level, CPU, VM, tables[level])
        assert f["walk_down"](m, CPU, level, tables[level], index(level))
    assert f["is_walking"](m, 1, CPU, VM, tables[1])
    assert f["tlb_fill"](m, CPU, 1, tables[1], index(1), 0)


def test_translations_may_be_cached_until_invept(model: Model, m: Any) -> None:
    """SDM 3C 29.4.2, 29.4.3: those of the page, and the paging-structure entries on the way."""
    frame = translated(model, m, READ)
    assert not model.functions["is_cached"](m, CPU, VM, frame)
    walk_by_steps(model, m)
    assert model.functions["is_cached"](m, CPU, VM, frame)
    assert not model.functions["is_cached"](m, CPU + 1, VM, frame)
    m.EPOCH += 1
    model.functions["invept"](m, CPU, VM)
    assert not model.functions["is_cached"](m, CPU, VM, frame)
    assert not any(model.functions["is_walking"](m, n, CPU, VM, table) for n, table in walk(m).items())


def test_a_guest_stores_where_translations_lead(model: Model, m: Any) -> None:
    frame = translated(model, m, WRITE)
    assert not model.functions["guest_store"](m, CPU, frame, 5, 0x1234)
    walk_by_steps(model, m)
    assert model.functions["guest_store"](m, CPU, frame, 5, 0x1234)
    assert m.PHYSICAL.read_64(frame << 12 | 5 << 3) == 0x1234


@pytest.mark.parametrize("accesses", [(READ,), (WRITE,), (WRITE, READ)])
def test_accessed_and_dirty_flags_are_set_as_by_an_access(
    model: Model, m: Any, accesses: tuple[int, ...]
) -> None:
    """SDM 3C 29.3.5: in each entry that is used; a leaf becomes dirty by a write, and stays so."""
    walk_by_steps(model, m)
    for level, table in walk(m).items():
        place = table << 12 | index(level) << 3
        m.PHYSICAL.write_64(place, m.PHYSICAL.read_64(place) & ~(ACCESSED | DIRTY))
        for access in accesses:
            dirty = access == WRITE and level == 1
            assert model.functions["set_accessed_dirty"](m, CPU, level, table, index(level), dirty)
        flags = m.PHYSICAL.read_64(place) & (ACCESSED | DIRTY)
        assert flags == ACCESSED | (DIRTY if WRITE in accesses and level == 1 else 0)


# --- the remapping hardware.  VT-d 6.2 ---


def context(model: Model, m: Any) -> tuple[int, int]:
    """The device's context entry."""
    place = model.functions["context_place"](m, DEVICE, 0)
    return m.PHYSICAL.read_64(place), m.PHYSICAL.read_64(place + 8)


def device_walk_by_steps(model: Model, m: Any) -> None:
    """The steps that a request of the device for the page consists of."""
    f, tables, domain = model.functions, walk(m), m.VM_DOMAIN[VM]
    assert f["cache_context"](m, DEVICE)
    assert f["device_walk_root"](m, DEVICE, *context(model, m))
    for level in (4, 3, 2):
        assert f["is_device_walking"](m, level, domain, tables[level])
        assert f["device_walk_down"](m, domain, level, tables[level], index(level))
    assert f["is_device_walking"](m, 1, domain, tables[1])
    assert f["iotlb_fill"](m, domain, 1, tables[1], index(1), 0)


def test_contexts_may_be_cached_until_invalidated(model: Model, m: Any) -> None:
    """VT-d 6.2.2, 6.5.1.1"""
    is_cached, entry = model.functions["is_context_cached"], context(model, m)
    for descriptor in (1 | GLOBALLY, 1 | 3 << 4 | DEVICE << 32):
        assert not is_cached(m, DEVICE, *entry)
        assert model.functions["cache_context"](m, DEVICE)
        assert is_cached(m, DEVICE, *entry)
        assert not is_cached(m, DEVICE + 8, *entry)
        m.EPOCH += 1
        model.functions["invalidate_contexts"](m, descriptor)
    assert not is_cached(m, DEVICE, *entry)


def test_translations_of_devices_may_be_cached_until_invalidated(model: Model, m: Any) -> None:
    """VT-d 6.2.3, 6.2.4, 6.5.1.2: and the entries on the way."""
    f, domain = model.functions, m.VM_DOMAIN[VM]
    frame = f["dma_translate"](m, DEVICE, PAGE << 12, READ) >> 12
    for descriptor in (2 | GLOBALLY | 3 << 6, 2 | 2 << 4 | 3 << 6 | domain << 16):
        assert not f["is_translation_cached"](m, domain, frame)
        device_walk_by_steps(model, m)
        assert f["is_translation_cached"](m, domain, frame)
        assert not f["is_translation_cached"](m, domain + 1, frame)
        m.EPOCH += 1
        f["invalidate_translations"](m, descriptor, 0)
        assert not any(f["is_device_walking"](m, n, domain, table) for n, table in walk(m).items())
    assert not f["is_translation_cached"](m, domain, frame)


def test_a_device_stores_where_its_context_and_translations_lead(model: Model, m: Any) -> None:
    frame = model.functions["dma_translate"](m, DEVICE, PAGE << 12, WRITE) >> 12
    assert not model.functions["device_store"](m, DEVICE, *context(model, m), frame, 5, 0x1234)
    device_walk_by_steps(model, m)
    assert model.functions["device_store"](m, DEVICE, *context(model, m), frame, 5, 0x1234)
    assert m.PHYSICAL.read_64(frame << 12 | 5 << 3) == 0x1234


def test_interrupt_entries_may_be_cached_until_invalidated(model: Model, m: Any) -> None:
    """VT-d 6.2.5, 6.5.2.7"""
    place = model.functions["irte_place"](m, VECTOR, 0)
    entry = m.PHYSICAL.read_64(place), m.PHYSICAL.read_64(place + 8)
    for descriptor in (4, 4 | 1 << 4 | VECTOR << 32):
        assert not model.functions["is_interrupt_cached"](m, VECTOR, *entry)
        assert model.functions["cache_interrupt"](m, VECTOR)
        assert model.functions["is_interrupt_cached"](m, VECTOR, *entry)
        m.EPOCH += 1
        model.functions["invalidate_interrupt_entries"](m, descriptor)
    assert not model.functions["is_interrupt_cached"](m, VECTOR, *entry)
