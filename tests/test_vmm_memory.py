"""How the VMM's steps and functions deal with frames: what they do, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import session_of

from refmodel.memory import EndlessMemory
from refmodel.model import Model

FREE, DATA, TABLE = 1, 2, {1: 4, 2: 8, 3: 0x10, 4: 0x20}  # kinds of frames
LIVE, DYING, RETIRED = 1, 2, 4
VM, PAGE = 1, 0x20
FIRST_USABLE, NO_FRAME = 0x100, 0
FULL, READ = 7, 1  # rights of an EPT entry
T, FRAMES = 0x800, 0x80000  # a table of the guest, and where its frames lie
SPAN = {1: 1, 2: 512, 3: 1 << 18}  # frames of a page mapped at that level


@pytest.fixture
def m(model: Model) -> Any:
    """A machine with one guest, which has a page."""
    return session_of(model, "")[0].machine


def leaf(model: Model, m: Any, page: int = PAGE) -> tuple[int, int]:
    """The table and index of a page's EPT entry."""
    return model.functions["table_for"](m, VM, page), page & 0x1FF


def entry(m: Any, table: int, index: int) -> int:
    value: int = m.PHYSICAL.read_64(table << 12 | index << 3)
    return value


@pytest.mark.parametrize(("writable", "executable", "rights"), [(0, 0, 1), (1, 0, 3), (0, 1, 5), (1, 1, 7)])
def test_rights_are_changed(model: Model, m: Any, writable: bool, executable: bool, rights: int) -> None:
    """SDM 3C table 29-6: read, write, execute."""
    before = entry(m, *leaf(model, m))
    assert before & 7 == FULL
    assert model.functions["protect"](m, *leaf(model, m), writable, executable)
    assert entry(m, *leaf(model, m)) == before & ~7 | rights


# --- claims ---


@pytest.fixture
def claiming(m: Any) -> Any:
    """The guest has a table T, whose kind a test chooses, and memory has no end."""
    m.PHYSICAL = EndlessMemory(1 << 12)
    m.VM_STATE[VM], m.FRAME_OWNER[T] = LIVE, VM
    return m


def claim(model: Model, m: Any, frame: int, count: int) -> bool:
    """Whether the guest's frame may be the next after `count` from FRAMES on."""
    m.PHYSICAL.write_64(T << 12, FRAMES << 3 | count << 43 if count else 0)
    m.FRAME_KIND[frame], m.FRAME_OWNER[frame], m.REVERSE_MAP[frame] = DATA, VM, 0
    claimed: bool = model.functions["claim"](m, T, 0, frame)
    return claimed


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_page_is_claimed_frame_by_frame(model: Model, claiming: Any, level: int) -> None:
    """The first is aligned to the page, the others follow it, and no more are claimed than the page has."""
    m, span = claiming, SPAN[level]
    m.FRAME_KIND[T] = TABLE[level]
    assert claim(model, m, FRAMES, 0)
    assert claim(model, m, FRAMES + 1, 0) == (level == 1)
    assert claim(model, m, FRAMES + 1, 1) == (level > 1)
    assert not claim(model, m, FRAMES + 2, 1)
    assert claim(model, m, FRAMES + span - 1, span - 1)
    for frame in (FRAMES, FRAMES + 1, FRAMES + span - 1, FRAMES + span, FRAMES + 2 * span):
        assert not claim(model, m, frame, span)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_page_is_mapped_when_all_of_it_is_claimed(model: Model, claiming: Any, level: int) -> None:
    m, span = claiming, SPAN[level]
    m.FRAME_KIND[T] = TABLE[level]
    for count in (0, span - 1, span + 1, span + (1 << 18) & (1 << 19) - 1):
        m.PHYSICAL.write_64(T << 12, FRAMES << 3 | count << 43)
        assert not model.functions["map_page"](m, T, 0, True, True)
    m.PHYSICAL.write_64(T << 12, FRAMES << 3 | span << 43)
    assert model.functions["map_page"](m, T, 0, True, True)
    assert entry(m, T, 0) == FRAMES << 12 | FULL | 6 << 3 | (0x80 if level > 1 else 0)


def test_nothing_is_mapped_for_a_guest_that_dies(model: Model, claiming: Any) -> None:
    m = claiming
    m.FRAME_KIND[T] = TABLE[1]
    m.VM_STATE[VM] = DYING
    assert not claim(model, m, FRAMES, 0)
    m.PHYSICAL.write_64(T << 12, FRAMES << 3 | 1 << 43)
    assert not model.functions["map_page"](m, T, 0, True, True)


# --- numbers of frames have 40 bits ---

FAR = 1 << 39 | 0x123


def test_the_reverse_map_holds_any_table(model: Model) -> None:
    m = model.machine(EndlessMemory(1 << 12))
    m.REVERSE_MAP[5] = 1 << 63 | FAR << 9 | 7
    m.PHYSICAL.write_64(FAR << 12 | 7 << 3, 0x1234)
    assert model.functions["entry_of"](m, 5) == 0x1234


def test_tables_and_pages_may_be_anywhere(model: Model, m: Any) -> None:
    table, index = leaf(model, m)
    m.PHYSICAL.write_64(table << 12 | index << 3, FAR << 12 | 0x37)
    m.FRAME_KIND[FAR], m.FRAME_OWNER[FAR], m.REVERSE_MAP[FAR] = DATA, VM, 1 << 63 | table << 9 | index
    assert model.functions["take_page"](m, VM, PAGE)
    assert m.FRAME_KIND[FAR] == FREE
    directory = m.PHYSICAL.read_64(m.EPT_ROOT[VM] << 12) >> 12  # level 3
    directory = m.PHYSICAL.read_64(directory << 12) >> 12
    m.PHYSICAL.write_64(directory << 12, FAR << 12 | FULL)
    assert model.functions["table_for"](m, VM, PAGE) == FAR


# --- frames that are free ---


def test_frames_that_were_given_back_are_used_before_others(model: Model, m: Any) -> None:
    f = model.functions
    frames = [entry(m, *leaf(model, m, page)) >> 12 for page in (PAGE, PAGE + 1)]
    assert all(f["take_page"](m, VM, page) for page in (PAGE, PAGE + 1))
    unused = m.NEXT_FRAME
    assert sorted(f["take_frame"](m) for _ in frames) == sorted(frames)
    assert f["take_frame"](m) == unused


def test_a_page_in_use_costs_no_frame(model: Model, m: Any) -> None:
    before = m.NEXT_FRAME, m.FREE_LIST, m.PHYSICAL.read_bytes(0, m.PHYSICAL.size)
    assert model.functions["give_page"](m, VM, PAGE) == NO_FRAME
    assert (m.NEXT_FRAME, m.FREE_LIST, m.PHYSICAL.read_bytes(0, m.PHYSICAL.size)) == before


@pytest.mark.parametrize("start", [FIRST_USABLE, FIRST_USABLE + 9, FIRST_USABLE + 31])
def test_what_guests_left_is_found_wherever_it_is(model: Model, start: int) -> None:
    """Of 32 frames of memory all are looked at once."""
    m = model.machine(1 << 12)
    m.MEMORY_END, m.VM_STATE[VM] = FIRST_USABLE + 32, RETIRED
    for frame in range(FIRST_USABLE, FIRST_USABLE + 32):
        m.FRAME_KIND[frame], m.FRAME_OWNER[frame], m.LEFT_FRAME = DATA, VM, start
        assert model.functions["find_left_frame"](m) == frame
        m.FRAME_KIND[frame] = 0
    assert model.functions["find_left_frame"](m) == NO_FRAME
