"""What Bochs calls while it runs: counts instructions and events, and stops it.

A watch knows nothing of the processor that has it, since Bochs's objects are invisible to Python's garbage collector.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

PAGE = 0x1000  # bytes
_ONES = b"\xff" * PAGE
_MOST_REPEATED = 4  # beginnings of one instruction before the guest is stopped
_NOT_FETCHED = -1


class Watch:
    """Stops Bochs at a PREFETCHNTA of the host, whose code lies in `host`, at a halt, and in a guest as `arm` says."""

    def __init__(self, host: range) -> None:
        self._host = host
        self.arm(1, at_once=False)

    def arm(self, limit: int, *, at_once: bool) -> None:
        """Stops before instruction `limit` + 1; with `at_once` already behind instruction `limit`."""
        self._limit, self._at_once = limit + 1, at_once  # VMLAUNCH counts
        self._begun: list[int] = []
        self._repeated = 0
        self.halted = False
        self.delivered: list[int] = []  # vectors of the events whose delivery began

    def of_host(self, hook: Any) -> Any:
        """What is called while the host runs: less, since each call costs."""
        hook.prefetch_hint = self._prefetch
        hook.hlt = hook.mwait = hook.reset = self._halt
        return hook

    def of_guest(self, hook: Any) -> Any:
        """What is called while a guest runs."""
        hook.before_execution, hook.after_execution, hook.repeat_iteration = self._begin, self._end, self._end
        hook.exception, hook.interrupt = self._raise, self._deliver
        return self.of_host(hook)

    def _prefetch(self, session: Any, *_: object) -> None:
        if session.cpu.rip in self._host:
            session.stop()

    def _halt(self, session: Any, *_: object) -> None:
        self.halted = True
        session.stop()

    def _begin(self, session: Any, *_: object) -> None:
        """Called before an instruction, and twice before one that begins a page."""
        rip = session.cpu.rip
        if self._begun[-1:] != [rip]:
            self._begun.append(rip)
            self._repeated = 0
        self._repeated += 1
        if len(self._begun) > self._limit or self._repeated == _MOST_REPEATED:
            session.stop()

    def _end(self, session: Any, *_: object) -> None:
        """Called behind an instruction that did not fault, or an iteration of it."""
        if self._at_once and len(self._begun) == self._limit:
            session.stop()

    def _raise(self, *_: object) -> None:
        """Called for each exception; an instruction that cannot be fetched or decoded has not begun."""
        if len(self._begun) == 1:
            self._begun.append(_NOT_FETCHED)

    def _deliver(self, _session: Any, _cpu: int, vector: int) -> None:
        self.delivered.append(vector)


class Ones:
    """The pages behind the end of memory, made when they are first touched: they read as ones."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._pages: list[mmap.mmap] = []

    def insert(self, address: int, *_: object) -> None:
        """Called for a page that is not there."""
        page = mmap.mmap(-1, PAGE)
        page[:] = _ONES
        self._pages.append(page)
        self._memory.page_insert(address & -PAGE, address_of(page))

    def restore(self) -> None:
        """Undoes what guests wrote there."""
        for page in self._pages:
            page[:] = _ONES


def address_of(buffer: mmap.mmap) -> int:
    """Where a buffer lies in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
