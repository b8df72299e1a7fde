"""What the statements of `isolation` say, in states where they must not hold: a weaker statement would be proved too.

Each case is something that a guest or its device must not reach.
"""

from __future__ import annotations

from typing import Any

import pytest
from vmm_guests import ENGINE, session_of

from refmodel.model import Model

RESERVED, DATA = 0, 2
TABLES = {1: 4, 2: 8, 3: 0x10, 4: 0x20}
PAGE, VMM, MINE, OTHERS = 0x20, 0, 1, 2
RIGHTS, LARGE = 7, 0x80
VECTOR = {1: 0x41, 2: 0x42}
PRESENT = 1


@pytest.fixture
def m(model: Model) -> Any:
    """A machine with two guests, each with memory and an engine."""
    return session_of(model, "", "")[0].machine


def tables(m: Any, vm: int) -> dict[int, int]:
    """The tables on the way to PAGE of a guest, by level."""
    found = {4: m.EPT_ROOT[vm]}
    for level in (3, 2, 1):
        found[level] = m.PHYSICAL.read_64(found[level + 1] << 12) >> 12 & (1 << 40) - 1
    return found


def frame_of(m: Any, vm: int) -> int:
    value: int = m.PHYSICAL.read_64(tables(m, vm)[1] << 12 | PAGE << 3) >> 12 & (1 << 40) - 1
    return value


# --- walks ---


@pytest.mark.parametrize("statement", ["walk_finds_own", "device_walk_finds_own"])
@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_a_walk_finds_what_is_the_guests(model: Model, m: Any, statement: str, level: int) -> None:
    own = tables(m, MINE)
    whose = MINE if statement == "walk_finds_own" else m.VM_DOMAIN[MINE]
    index = PAGE if level == 1 else 0

    def holds(entry: int) -> bool:
        m.PHYSICAL.write_64(own[level] << 12 | index << 3, entry)
        result: bool = model.functions[statement](m, level, whose, own[level], index, 0)
        return result

    next_ = {vm: frame_of(m, vm) if level == 1 else tables(m, vm)[level - 1] for vm in (MINE, OTHERS)}
    assert holds(0)
    assert holds(next_[MINE] << 12 | RIGHTS)
    assert not holds(next_[OTHERS] << 12 | RIGHTS)
    assert not holds(RIGHTS)  # the VMM's first frame
    assert not holds(own[level] << 12 | RIGHTS)  # a table of another level, or no data
    if level in (2, 3):
        m.FRAME_KIND[1 << 20], m.FRAME_OWNER[1 << 20] = DATA, OTHERS
        assert not holds(1 << 32 | RIGHTS | LARGE)
        m.FRAME_OWNER[1 << 20] = MINE
        assert holds(1 << 32 | RIGHTS | LARGE)


# --- memory ---


def test_whose_memory_it_is(model: Model, m: Any) -> None:
    """Of another guest than MINE: its data, and what the VMM keeps; not tables, which no guest sees."""
    others = {frame_of(m, OTHERS): True, frame_of(m, MINE): False, 0: True, tables(m, OTHERS)[1]: False}
    for frame, expected in others.items():
        assert model.functions["is_data_of_others"](m, MINE, frame) == expected


def test_what_a_device_may_reach(model: Model, m: Any) -> None:
    """The memory of its guest.  A device that nobody has reaches nothing, not even what the VMM keeps as data."""
    reaches = model.functions["is_memory_of_owner"]
    assert reaches(m, ENGINE[1], frame_of(m, MINE))
    assert not reaches(m, ENGINE[1], frame_of(m, OTHERS))
    assert not reaches(m, ENGINE[1], tables(m, MINE)[1])
    m.FRAME_KIND[0x150], m.FRAME_OWNER[0x150] = DATA, VMM
    assert not reaches(m, 3 << 3, 0x150)


def test_a_context_is_the_devices_own(model: Model, m: Any) -> None:
    """Or it has none."""
    holds, place = model.functions["has_own_context"], model.functions["context_place"](m, ENGINE[1], 0)
    assert holds(m, ENGINE[1])
    m.PHYSICAL.write_64(place, m.EPT_ROOT[OTHERS] << 12 | PRESENT)
    assert not holds(m, ENGINE[1])
    m.PHYSICAL.write_64(place, 0)
    assert holds(m, ENGINE[1])


# --- interrupts ---


def interrupt(
    model: Model, vector: int, mode: int = 0, destination: int = 0, *, logical: bool = False
) -> Any:
    return model.namespace["Interrupt"](
        vector=vector, delivery_mode=mode, destination=destination, logical=logical
    )


def test_interrupts_that_a_device_may_send(model: Model, m: Any) -> None:
    """Fixed ones of its own vector to a processor that there is: no NMI, INIT or SMI.  VT-d 9.10, SDM 3A 11.11.2"""

    def may(sent: Any, device: int = ENGINE[1]) -> bool:
        result: bool = model.functions["is_interrupt_of"](m, device, sent)
        return result

    assert may(interrupt(model, VECTOR[1]))
    assert may(interrupt(model, VECTOR[1], destination=m.LAST_CPU))
    assert not may(interrupt(model, VECTOR[1], destination=m.LAST_CPU + 1))
    assert not may(interrupt(model, VECTOR[1], logical=True))
    assert not any(may(interrupt(model, VECTOR[1], mode)) for mode in range(1, 8))
    assert not may(interrupt(model, VECTOR[2]))


def test_vectors_of_a_device(model: Model, m: Any) -> None:
    """Not those of exceptions, SDM 3A 6.2; and a device that nobody has has none."""

    def has(vector: int) -> bool:
        result: bool = model.functions["is_vector_of"](m, ENGINE[1], vector)
        return result

    assert [vector for vector in range(256) if has(vector)] == [VECTOR[1]]
    m.DEVICE_VECTOR[ENGINE[1]] = 31
    assert not has(31)
    m.DEVICE_VECTOR[ENGINE[1]], m.DEVICE_OWNER[ENGINE[1]] = VECTOR[1], VMM
    assert not has(VECTOR[1])


# --- differences that a guest may notice ---


@pytest.mark.parametrize("name", ["EPT_MISCONFIGURATION", "TRIPLE_FAULT"])
def test_exits_that_end_the_guest_are_declared(model: Model, m: Any, name: str) -> None:
    """docs/theorems.md: where the bare machine would go on, or reset."""
    model.functions["switch_to"](m, MINE)
    reason = model.namespace[f"ExitReason_{name}"]
    model.functions["differs"](m, model.namespace["VmExit"](reason=reason))
    assert m.VM_STATE[MINE] != 1


@pytest.mark.parametrize("access", range(4))
@pytest.mark.parametrize("number", [0, 3, 4, 8])
def test_only_mov_to_cr0_and_cr4_finds_fewer_features(model: Model, m: Any, access: int, number: int) -> None:
    """SDM 3C table 28-3: bits 5..4 are the kind of access, 0 for MOV to; 1, 2 and 3 are MOV from, CLTS and LMSW."""
    m.SEGMENT_RIGHTS[1] = 0xA09B
    m.GPR[1] = 1 << 13  # no CR0.PG, and CR4.VMXE
    if access == 0 and number in (0, 4):
        with pytest.raises(model.namespace["FaultAbort"]) as fault:
            model.functions["check_guest_cr"](m, number | access << 4 | 1 << 8)
        assert fault.value.value.vector == 13
    else:
        model.functions["check_guest_cr"](m, number | access << 4 | 1 << 8)
