"""The fast model's page walk against the reference's: random guest tables and EPT, one access at a time.

What the fast model does must be what the reference does, accessed and dirty flags included; what it refuses must
leave everything as it was.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from fastmodel import FastEngine, Reason
from refmodel.model import Model

SIZE = 1 << 18  # bytes of memory
PAGE = 0x1000
CS = 1
RAX, RBX, RSP, RSI, RDI = 0, 3, 4, 6, 7
CODE, TARGET = 0x4000_0000, 0x4000_1000  # linear addresses
# Host frames. Guest-physical frame n is host frame n ^ 0x20 under EPT.
GUEST_TABLES, CODE_FRAME, DATA_FRAME, EPT_TABLES = 1, 5, 6, 0x10
SWAP = 0x20
EPT_LEAF = 6 << 3  # write-back
USED = 0x60  # accessed, dirty
INSTRUCTIONS = {"read": b"\x48\x8b\x03", "write": b"\x48\x89\x03", "modify": b"\x48\x01\x03"}  # RAX and [RBX]


@dataclass
class World:
    """A machine whose tables map CODE and TARGET, and then get a few wrong bits."""

    m: Any
    uses_ept: bool

    def host(self, frame: int) -> int:
        """Where a guest-physical frame lies."""
        return (frame ^ SWAP if self.uses_ept else frame) * PAGE

    def write(self, address: int, value: int) -> None:
        self.m.PHYSICAL.write_64(address, value)

    def entries(self) -> list[int]:
        """The host addresses of all entries that a walk for TARGET or CODE uses."""
        guest = [self.host(GUEST_TABLES + n) for n in range(3)]
        guest[1:2] = [self.host(GUEST_TABLES + 1) + 8]
        found = [*guest, self.host(GUEST_TABLES + 3), self.host(GUEST_TABLES + 3) + 8]
        if self.uses_ept:
            tables = [(EPT_TABLES + n) * PAGE for n in range(3)]
            found += [*tables, *(self.ept_leaf(GUEST_TABLES + n) for n in range(6))]
        return found

    @staticmethod
    def ept_leaf(frame: int) -> int:
        return (EPT_TABLES + 3) * PAGE + 8 * frame

    def build(self, source: random.Random) -> None:
        """Writes the tables and a random state of the processor."""
        user = source.choice((0, 4))
        for n in range(3):
            index = 8 if n == 1 else 0  # CODE and TARGET are in the second entry of the PDPT
            self.write(self.host(GUEST_TABLES + n) + index, (GUEST_TABLES + n + 1) * PAGE | 0x23 | user)
        for n, frame in enumerate((CODE_FRAME, DATA_FRAME)):
            self.write(self.host(GUEST_TABLES + 3) + 8 * n, frame * PAGE | 3 | user | USED)
        accessed_dirty = source.choice((0, 1 << 6)) if self.uses_ept else 0
        for n in range(3):
            self.write((EPT_TABLES + n) * PAGE, (EPT_TABLES + n + 1) * PAGE | 7 | 1 << 8)
        for frame in range(SIZE // PAGE):
            self.write(self.ept_leaf(frame), (frame ^ SWAP) * PAGE | 7 | EPT_LEAF | 3 << 8)
        m = self.m
        m.CR0 = 0x80000033 | source.choice((0, 1 << 16))
        m.CR4 = 0x20 | source.choice((0, 1 << 20)) | source.choice((0, 1 << 21))
        m.EFER = 0x500 | source.choice((0, 1 << 11))
        m.CR3 = GUEST_TABLES * PAGE
        cpl = source.choice((0, 3))
        m.SEGMENT_RIGHTS[:] = [0x93 | cpl << 5] * 8
        m.SEGMENT_RIGHTS[CS] = 0xA09B | cpl << 5
        m.IN_NON_ROOT = self.uses_ept
        m.vmcs.PRIMARY_CONTROLS = 1 << 31
        m.vmcs.SECONDARY_CONTROLS = 2
        m.vmcs.EPT_POINTER = EPT_TABLES * PAGE | 0x1E | accessed_dirty
        m.RFLAGS = 2 | source.choice((0, 1 << 18))

    def break_bits(self, source: random.Random) -> None:
        """Inverts a few bits of the entries, mostly low ones."""
        for _ in range(source.choice((0, 1, 1, 2, 3))):
            place = source.choice(self.entries())
            bit = source.choice((*range(13), *range(9), 21, 40, 51, 63))
            self.write(place, self.m.PHYSICAL.read_64(place) ^ 1 << bit)

    def place_instruction(self, code: bytes, offset: int) -> None:
        m = self.m
        m.PHYSICAL.write_bytes(self.host(CODE_FRAME), code)
        m.PHYSICAL.write_bytes(self.host(DATA_FRAME), bytes(range(256)) * 16)
        m.RIP = CODE
        m.GPR[:] = [0] * 16
        m.GPR[RAX], m.GPR[3] = 0x1122334455667788, TARGET + offset
        m.cache_translate.clear()
        m.INTERRUPTIBILITY = m.ACTIVITY_STATE = 0


def observe(m: Any) -> tuple[Any, ...]:
    return list(m.GPR), m.RIP, m.RFLAGS, m.PHYSICAL.read_bytes(0, SIZE)


@pytest.mark.parametrize("uses_ept", [False, True], ids=["paging", "ept"])
@pytest.mark.parametrize(("backend", "count"), [("native", 1500), ("python", 100)])
def test_accesses_do_what_the_reference_does(model: Model, backend: str, count: int, uses_ept: bool) -> None:
    worlds = [World(model.machine(SIZE), uses_ept) for _ in range(2)]
    fast, reference = (world.m for world in worlds)
    engine = FastEngine(model.program, fast, backend)
    outcomes: Counter[str] = Counter()
    for case in range(count):
        code, offset = random.Random(case).choice(list(INSTRUCTIONS.values())), case % 2 * 0x10
        for world in worlds:
            source = random.Random(case)
            world.build(source)
            world.break_bits(source)
            world.place_instruction(code, offset)
        before = observe(fast)
        if engine.execute_one():
            model.functions["cycle"](reference)
            assert observe(fast) == observe(reference), case
            outcomes["executed"] += 1
        else:
            assert observe(fast) == before, case
            outcomes["refused"] += 1
    assert min(outcomes["executed"], outcomes["refused"]) > count // 5, outcomes


def test_a_translation_known_many_flushes_ago_is_not_known_any_more(model: Model) -> None:
    """The generations of the wide tables wrap; so do addresses at the end of the address space."""
    world = World(model.machine(SIZE), uses_ept=False)
    world.build(random.Random(0))
    world.m.CR4 = 0x20
    engine = FastEngine(model.program, world.m)
    for _ in range(4100):
        world.place_instruction(INSTRUCTIONS["read"], 0)
        world.m.GPR[3] = -PAGE % (1 << 64)
        assert not engine.execute_one()
        assert engine.reason is Reason.MEMORY_ACCESS
    world.place_instruction(INSTRUCTIONS["read"], 0)
    assert engine.execute_one()


# Instructions with two memory operands, the second of which is not present; the last is refused for its target.
REFUSED_LATE = {
    "cmpsq": b"\x48\xa7",
    "movsq": b"\x48\xa5",
    "push": b"\xff\x36",
    "call": b"\xff\x16",
    "jump": b"\xff\x26",
}


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("name", REFUSED_LATE)
def test_an_operand_before_the_one_that_is_refused_was_not_used(
    model: Model, name: str, backend: str
) -> None:
    world = World(model.machine(SIZE), uses_ept=False)
    world.build(random.Random(0))
    world.m.CR4 = 0x20
    world.place_instruction(REFUSED_LATE[name], 0)
    m = world.m
    leaf = world.host(GUEST_TABLES + 3) + 8
    world.write(leaf, m.PHYSICAL.read_64(leaf) & ~USED)
    m.GPR[RSI], m.GPR[RDI], m.GPR[RSP] = TARGET, TARGET + PAGE, TARGET + PAGE + 0x800
    m.PHYSICAL.write_64(world.host(DATA_FRAME), 1 << 62 if name == "jump" else CODE)
    before = observe(m)
    engine = FastEngine(model.program, m, backend)
    assert engine.run(2) == 0
    assert observe(m) == before
    m.PHYSICAL.write_bytes(world.host(CODE_FRAME), INSTRUCTIONS["read"])
    m.GPR[RBX] = TARGET
    assert engine.run(1) == 1
    assert m.PHYSICAL.read_64(leaf) & USED == 0x20, "used now: the translation was forgotten"
