"""The example guests: assembled by the project's own assembler and run under the specification's VMM."""

from __future__ import annotations

from pathlib import Path

import pytest

import refmodel
from refmodel.image_files import load_image
from refmodel.session import PAGE_SIZE, Session

MEMORY = 1 << 19  # bytes for each guest
MOST_STEPS = 300_000
EXAMPLES = Path(__file__).parent.parent / "examples"

MODEL = refmodel.load()

# 1229 primes lie below 10,000; the attacker owns MEMORY / 4096 = 128 pages.
PRINTED = {
    "hello": "Hello from VMX non-root mode.\nAnd hello over COM1.\n",
    "sieve": "1229 primes below 10000\n",
    "paging": "running on my own page tables\n"
    "#PF at 200000, error code 0: repaired\n"
    "#PF at 201000, error code 3: repaired\n"
    "#UD: skipped\n"
    "#GP at CPL 3: done\n",
    "dma": "copied by the DMA engine\n"
    "its interrupt arrived\n"
    "reading outside: 0 moved, reason 6\n"
    "writing outside: 0 moved, reason 5\n"
    "an unremapped interrupt: 0 moved, reason 25\n"
    "a foreign interrupt: 0 moved, reason 22\n",
    "attacker": "looking for other guests' memory\n"
    "128 pages answered\n"
    "602 accesses refused\n"
    "0 marks of other guests found\n",
}


class Guests:
    """Several examples in one session, and what each printed."""

    def __init__(self, *names: str) -> None:
        self.printed: dict[int, str] = dict.fromkeys(range(1, len(names) + 1), "")
        images = [load_image(EXAMPLES / f"{name}.asm", MODEL.program) for name in names]
        self.session = Session(MODEL, images, MEMORY, self._write)

    def _write(self, guest: int, byte: int) -> None:
        self.printed[guest] += chr(byte)

    def run(self) -> None:
        steps = self.session.run(MOST_STEPS)
        assert steps < MOST_STEPS, "the guests did not end"


def test_every_example_is_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.asm")} == set(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example(name: str) -> None:
    guests = Guests(name)
    guests.run()
    assert guests.printed == {1: PRINTED[name]}


def test_guests_side_by_side() -> None:
    names = ["attacker", "hello", "paging", "attacker"]
    guests = Guests(*names)
    guests.run()
    assert list(guests.printed.values()) == [PRINTED[name] for name in names]


def test_the_attacker_finds_what_is_not_isolated() -> None:
    """A page of its EPT is made to point to another guest's marked page, behind the VMM's back."""
    guests = Guests("attacker", "attacker")
    machine = guests.session.machine
    frames = {number: guest.frames for number, guest in guests.session.guests.items()}
    starts = [machine.PHYSICAL.read_bytes(frame * PAGE_SIZE, 8) for frame in frames[2]]
    mark = starts.index(b"!nonroot")
    last = len(frames[1]) - 2  # a page that the attacker does not use; its stack is in the last one
    redirect(guests, frames[1][last], frames[2][mark])
    guests.run()
    assert "1 marks of other guests found" in guests.printed[1]
    assert guests.printed[2] == PRINTED["attacker"]


def redirect(guests: Guests, old: int, new: int) -> None:
    """Replaces the frame in the one EPT entry that points to it."""
    memory = guests.session.machine.PHYSICAL
    words = ((address, memory.read_64(address)) for address in range(0, memory.size, 8))
    (entry,) = (address for address, word in words if word >> 12 == old and word & 7)
    memory.write_64(entry, memory.read_64(entry) ^ old << 12 ^ new << 12)
