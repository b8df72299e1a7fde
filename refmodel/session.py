"""Guests side by side: loads images, boots them through the specification's VMM, and runs them.

A guest starts in 64-bit mode at CPL 0 with identity page tables that the loader writes into its memory:

    0x1000  PML4        0x2000  PDPT        0x3000  PD: 512 pages of 2 MB, supervisor, writable

RSP is the end of its memory, RDI the number of bytes it has, the other registers are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from refmodel.image import Image, ImageError
from refmodel.model import Model

PAGE_SIZE = 0x1000
PML4, PDPT, PAGE_DIRECTORY = 0x1000, 0x2000, 0x3000
LOW_END = 0x4000  # images lie above the loader's page tables
MAX_GUESTS = 16
_TABLE = 0x3  # present, writable
_LARGE_PAGE = 0x83  # the same, 2 MB
_LARGE_SIZE = 1 << 21
_RDI = 7
# Frames that the VMM and the EPT tables of a guest take beyond the guest's pages.
_SPARE_FRAMES = 64

# Steps in a row that the VMM makes without a guest running: more of them mean that no VM entry succeeds.
_MOST_STEPS_OUTSIDE = 1000

Console = Callable[[int, int], None]


class NoEntry(Exception):
    """The VMM cannot enter a guest; the message names the checks that fail."""


@dataclass
class Guest:
    """One guest; `frames` are the host frames behind its pages.

    What ended it is an exit with this `reason`, or something `outside` of the specification, in words.
    """

    number: int
    image: Image
    memory: int
    frames: list[int] = field(default_factory=list)
    reason: int | None = None
    outside: str | None = None


class Session:
    """A machine with its guests.  `console(guest number, byte)` gets what they write."""

    def __init__(self, model: Model, images: Iterable[Image], memory: int, console: Console) -> None:
        self.guests = {n: Guest(n, image, memory) for n, image in enumerate(images, start=1)}
        if len(self.guests) > MAX_GUESTS:
            raise ImageError(f"at most {MAX_GUESTS} guests can run at once")
        for guest in self.guests.values():
            _check_fits(guest)
        self._model = model
        self._functions = model.functions
        for_each = memory // PAGE_SIZE + memory // _LARGE_SIZE + _SPARE_FRAMES
        frames = model.program.constants["FIRST_USABLE_FRAME"].value + len(self.guests) * for_each
        self.machine = model.machine(frames * PAGE_SIZE)
        self.machine.listeners = {"console": console, "guest_stopped": self._stopped}
        self._run_one = self._functions["run_one"]
        self._call("boot_vmm", frames)
        for guest in self.guests.values():
            self._boot(guest)

    def step(self) -> bool:
        """One instruction of a guest, or one VM entry; false if no guest is left.

        A guest that reaches what the specification says nothing about is ended, and the others go on.
        """
        try:
            alive: bool = self._run_one(self.machine)
        except self._model.outside as error:
            if not self.machine.IN_NON_ROOT:
                raise
            alive = self._give_up(self._model.what_is_outside(error))
        return alive

    def run(self, max_steps: int | None, ahead: Callable[[int], int] | None = None) -> int:
        """Runs until no guest is left, or for so many steps; returns how many were made.

        `ahead(limit)` is another engine: it makes up to `limit` steps and returns how many; the one it stops at is
        left to the reference.
        """
        limit = max_steps if max_steps is not None else 1 << 62
        done, alive, outside = 0, True, 0
        while alive and done < limit:
            if ahead is not None:
                done += ahead(limit - done)
                if done >= limit:
                    break
            alive = self.step()
            done += 1
            outside = 0 if self.machine.IN_NON_ROOT else outside + 1
            if outside > _MOST_STEPS_OUTSIDE:
                broken = ", ".join(self._model.broken_rules(self.machine))
                raise NoEntry(f"VM entry fails: {broken or 'no rule says why'}")
        return done

    def _call(self, function: str, *arguments: int) -> Any:
        return self._functions[function](self.machine, *arguments)

    def _stopped(self, number: int, reason: int) -> None:
        self.guests[number].reason = reason

    def _give_up(self, what: str) -> bool:
        """Ends the current guest; false if it was the last."""
        machine = self.machine
        self.guests[machine.CURRENT_VM].outside = f"{what} at {machine.RIP:#x}"
        self._call("give_up_guest")
        return bool(self._call("next_guest"))

    def _boot(self, guest: Guest) -> None:
        if not self._call("make_vm", guest.number):
            raise ImageError(f"{guest.image.name}: the VMM has no memory for another guest")
        for page in range(guest.memory // PAGE_SIZE):
            frame = self._call("give_page", guest.number, page)
            if frame == 0:
                raise ImageError(f"{guest.image.name}: the VMM has no memory for another guest")
            guest.frames.append(frame)
        self._write_page_tables(guest)
        for segment in guest.image.segments:
            self._write(guest, segment.address, segment.data)
        self._call("start_vm", guest.number, guest.image.entry, guest.memory, PML4)
        self.machine.GPR[_RDI] = guest.memory

    def _write_page_tables(self, guest: Guest) -> None:
        self._write(guest, PML4, (PDPT | _TABLE).to_bytes(8, "little"))
        self._write(guest, PDPT, (PAGE_DIRECTORY | _TABLE).to_bytes(8, "little"))
        entries = (n * _LARGE_SIZE | _LARGE_PAGE for n in range(512))
        self._write(guest, PAGE_DIRECTORY, b"".join(e.to_bytes(8, "little") for e in entries))

    def _write(self, guest: Guest, address: int, data: bytes) -> None:
        """Writes to guest-physical memory, page by page."""
        while data:
            page, offset = divmod(address, PAGE_SIZE)
            piece = data[: PAGE_SIZE - offset]
            self.machine.PHYSICAL.write_bytes(guest.frames[page] * PAGE_SIZE + offset, piece)
            address += len(piece)
            data = data[len(piece) :]


def _check_fits(guest: Guest) -> None:
    for segment in guest.image.segments:
        if segment.address < LOW_END:
            raise ImageError(
                f"{guest.image.name}: a segment begins at {segment.address:#x}; the loader's page tables lie "
                f"below {LOW_END:#x}"
            )
    if guest.image.end > guest.memory:
        raise ImageError(
            f"{guest.image.name}: the image ends at {guest.image.end:#x}, the guest's memory at {guest.memory:#x} "
            "(more with --memory)"
        )
