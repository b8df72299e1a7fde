"""Paging: sizes of pages, rights, accessed and dirty flags, error codes; accesses across pages.  SDM 3A 4.5 to 4.8"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from refmodel.model import Model
from refmodel.runtime import Abort

PML4, PDPT, PD, PT = 0x1000, 0x2000, 0x3000, 0x4000
FRAME = 0x20000  # what the pages under test map
PAGE = 0x40000000 + 3 * 0x200000 + 5 * 0x1000  # linear; one entry of each table
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE, XD = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
ALL = PRESENT | WRITABLE | USER
READ, WRITE, EXECUTE = range(3)
CS, SS = 1, 2
GP, PF, AC = 13, 14, 17
WRITE_ERROR, USER_ERROR, RESERVED_ERROR, FETCH_ERROR = 2, 4, 8, 16
WP, AM = 1 << 16, 1 << 18
SMEP, SMAP = 1 << 20, 1 << 21
ALIGNMENT_CHECK = 1 << 18  # RFLAGS.AC
# The place of the entry for PAGE at each level.
PLACES = {4: PML4, 3: PDPT + 8, 2: PD + 8 * 3, 1: PT + 8 * 5}


@pytest.fixture
def m(model: Model) -> Any:
    """A machine whose PAGE and the page behind it map FRAME and the frame behind it."""
    machine = model.machine(1 << 20)
    machine.CR0, machine.CR4, machine.EFER, machine.CR3 = 0x80010031, 0x20, 0xD00, PML4
    entries = {4: PDPT | ALL, 3: PD | ALL, 2: PT | ALL, 1: FRAME | ALL}
    for level, entry in entries.items():
        machine.PHYSICAL.write_64(PLACES[level], entry)
    machine.PHYSICAL.write_64(PLACES[1] + 8, FRAME + 0x1000 | ALL)
    machine.SEGMENT_RIGHTS[CS], machine.SEGMENT_RIGHTS[SS] = 0xA09B, 0x93
    return machine


def access(model: Model, m: Any, kind: int, address: int = PAGE) -> int:
    """Where the byte lies; if the access faults with #PF, the complement of the error code."""
    functions = model.functions
    try:
        if kind == EXECUTE:
            return int(functions["fetch_translate"](m, address))
        place: int = functions["locate"](m, address, kind, functions["data_privilege"](m))
    except Abort as abort:
        if (abort.value.vector, abort.value.qualification) != (PF, address):
            raise
        return ~int(abort.value.error)
    return place


def entry(m: Any, level: int) -> int:
    value: int = m.PHYSICAL.read_64(PLACES[level])
    return value


def put(m: Any, level: int, value: int) -> None:
    m.PHYSICAL.write_64(PLACES[level], value)


def set_cpl(m: Any, cpl: int) -> None:
    m.SEGMENT_RIGHTS[SS] = 0x93 | cpl << 5


@pytest.mark.parametrize(("level", "base"), [(1, FRAME), (2, 0x600000), (3, 0x80000000)])
def test_page_sizes(model: Model, m: Any, level: int, base: int) -> None:
    put(m, level, base | ALL | (LARGE if level > 1 else 0))
    span = 1 << 12 + 9 * (level - 1)
    assert access(model, m, READ, PAGE + 0x123) == base + (PAGE + 0x123) % span


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_an_absent_entry_faults_at_each_level(model: Model, m: Any, level: int) -> None:
    put(m, level, entry(m, level) & ~PRESENT)
    assert access(model, m, WRITE) == ~WRITE_ERROR


@pytest.mark.parametrize(
    ("level", "bit"), [(1, 40), (2, 51), (3, 45), (4, 40), (4, 7), (2, 13), (2, 20), (3, 13), (3, 29)]
)
def test_reserved_bits(model: Model, m: Any, level: int, bit: int) -> None:
    large = LARGE if level in (2, 3) and bit < 40 else 0
    put(m, level, entry(m, level) | 1 << bit | large)
    assert access(model, m, READ) == ~(PRESENT | RESERVED_ERROR)


def test_xd_is_reserved_without_nxe(model: Model, m: Any) -> None:
    put(m, 1, entry(m, 1) | XD)
    assert access(model, m, READ) == FRAME
    m.EFER &= ~0x800
    assert access(model, m, WRITE) == ~(PRESENT | RESERVED_ERROR | WRITE_ERROR)


def is_allowed(rights: int, kind: int, cpl: int, cr0: int, cr4: int, explicit_ac: bool) -> bool:
    """The rules of SDM 3A 4.6.1, case by case."""
    is_user_page, is_writable, no_execute = bool(rights & USER), bool(rights & WRITABLE), bool(rights & XD)
    if cpl == 3:
        return is_user_page and {READ: True, WRITE: is_writable, EXECUTE: not no_execute}[kind]
    if kind == EXECUTE:
        return not no_execute and not (is_user_page and cr4 & SMEP)
    if is_user_page and cr4 & SMAP and not explicit_ac:
        return False
    return kind == READ or is_writable or not cr0 & WP


@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("cpl", [0, 3])
def test_rights(model: Model, m: Any, cpl: int, level: int) -> None:
    set_cpl(m, cpl)
    plain = entry(m, level) & ~ALL
    for bits in product(
        [0, WRITABLE], [0, USER], [0, XD], [0, WP], [0, SMEP], [0, SMAP], [0, ALIGNMENT_CHECK]
    ):
        writable, user, no_execute, wp, smep, smap, ac = bits
        m.CR0, m.CR4, m.RFLAGS = 0x80000031 | wp, 0x20 | smep | smap, 2 | ac
        rights = writable | user | no_execute
        put(m, level, plain | PRESENT | rights)
        for kind in (READ, WRITE, EXECUTE):
            machine = fresh(model, m)
            allowed = is_allowed(rights, kind, cpl, m.CR0, m.CR4, bool(ac))
            error = PRESENT | (WRITE_ERROR if kind == WRITE else 0) | (USER_ERROR if cpl == 3 else 0)
            error |= FETCH_ERROR if kind == EXECUTE else 0
            assert access(model, machine, kind) == (FRAME if allowed else ~error), bits


def fresh(model: Model, m: Any) -> Any:
    """The same machine with no translation remembered."""
    machine = model.machine(m.PHYSICAL)
    for name in ("CR0", "CR3", "CR4", "EFER", "RFLAGS"):
        setattr(machine, name, getattr(m, name))
    machine.SEGMENT_RIGHTS = list(m.SEGMENT_RIGHTS)
    return machine


def test_accessed_and_dirty_flags(model: Model, m: Any) -> None:
    before = {level: entry(m, level) for level in PLACES}
    access(model, m, READ)
    assert {level: entry(m, level) for level in PLACES} == {k: v | ACCESSED for k, v in before.items()}
    access(model, m, WRITE)
    assert entry(m, 1) == before[1] | ACCESSED | DIRTY
    assert all(entry(m, level) == before[level] | ACCESSED for level in (2, 3, 4))


def test_a_fault_leaves_the_flags_of_the_page(model: Model, m: Any) -> None:
    put(m, 1, entry(m, 1) & ~WRITABLE)
    before = entry(m, 1)
    assert access(model, m, WRITE) == ~(PRESENT | WRITE_ERROR)
    assert entry(m, 1) == before


def test_a_store_across_pages_faults_before_it_writes(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(PLACES[1] + 8, 0)
    last = FRAME + 0xFFC
    m.PHYSICAL.write_32(last, 0x11111111)
    with pytest.raises(Abort) as caught:
        model.functions["store_64"](m, PAGE + 0xFFC, 0x2222222233333333)
    assert (caught.value.value.vector, caught.value.value.qualification) == (PF, PAGE + 0x1000)
    assert m.PHYSICAL.read_32(last) == 0x11111111


def test_a_value_across_pages(model: Model, m: Any) -> None:
    m.PHYSICAL.write_64(PLACES[1] + 8, 0x50000 | ALL)
    model.functions["store_64"](m, PAGE + 0xFFD, 0x8877665544332211)
    assert m.PHYSICAL.read_bytes(FRAME + 0xFFD, 3) == bytes.fromhex("11 22 33")
    assert m.PHYSICAL.read_bytes(0x50000, 5) == bytes.fromhex("44 55 66 77 88")
    assert model.functions["load_64"](m, PAGE + 0xFFD) == 0x8877665544332211


@pytest.mark.parametrize("cpl", [0, 3])
def test_alignment_check(model: Model, m: Any, cpl: int) -> None:
    m.CR0 |= AM
    m.RFLAGS = 2 | ALIGNMENT_CHECK
    set_cpl(m, cpl)
    assert model.functions["load_32"](m, PAGE + 4) == 0
    if cpl == 0:
        assert model.functions["load_32"](m, PAGE + 2) == 0
        return
    with pytest.raises(Abort) as caught:
        model.functions["load_32"](m, PAGE + 2)
    assert caught.value.value.vector == AC


def test_a_translation_is_remembered_until_it_is_forgotten(model: Model, m: Any) -> None:
    assert access(model, m, READ) == FRAME
    put(m, 1, 0x50000 | ALL)
    assert access(model, m, READ) == FRAME
    assert access(model, fresh(model, m), READ) == 0x50000


@pytest.mark.parametrize("address", [1 << 47, (1 << 64) - (1 << 47) - 1])
def test_an_address_that_is_not_canonical(model: Model, m: Any, address: int) -> None:
    with pytest.raises(Abort) as caught:
        model.functions["fetch_translate"](m, address)
    assert caught.value.value.vector == GP
