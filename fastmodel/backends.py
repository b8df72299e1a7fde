"""The two ways to run the texts: compiled to native code, or as plain Python where llvmlite is missing.

Both give every routine a code, the word that the decoder puts into a decoded instruction, and run the loop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Protocol

from fastmodel.compiler.primitives import field
from fastmodel.decoded import CODE
from fastmodel.sources import digest_of, sources
from fastmodel.state import PINNED

if TYPE_CHECKING:
    from fastmodel.translator.hotness import Translator
    from fastmodel.translator.regions import Routine


class Backend(Protocol):
    """Runs the texts."""

    name: str
    codes: dict[str, int]

    def run(self, state: int, budget: int) -> int:
        """Calls `loop.run` with the address of a state block."""
        ...

    def run_cases(self, state: int, row: int, count: int) -> None:
        """Calls `cases.run_cases` with the addresses of a state block and of rows."""
        ...

    def translator(self, block: int) -> Translator | None:
        """A translator of hot code for the state block at an address, if there is one."""


class NativeBackend:
    """Native code, by way of the cache."""

    name = "native"

    def __init__(self, *, threaded: bool | None = None) -> None:
        from fastmodel.compiler import build

        target = build.Target.host(threaded=threaded, pinned=PINNED, effort=build.ROUTINES)

        def make() -> tuple[str, str]:
            from fastmodel.routines import native_text

            return native_text(target.convention)

        self._region_target = replace(target, effort=build.THOROUGH)
        self._code = build.load(target, "fastmodel", digest_of(sources()), make)
        names = self._code.note.split("\n")
        addresses = (ctypes.c_int64 * len(names)).from_address(self._code.address("routines"))
        self.codes = dict(zip(names, addresses, strict=True))
        self._run = self._code.function("run", 2)
        self._run_cases = self._code.function("run_cases", 3)

    def run(self, state: int, budget: int) -> int:
        """Calls `loop.run`."""
        return self._run(state, budget)

    def run_cases(self, state: int, row: int, count: int) -> None:
        """Calls `cases.run_cases`."""
        self._run_cases(state, row, count)

    def address(self, entry: str) -> int:
        """Where one of ENTRIES lies, for other native code."""
        return self._code.address(entry)

    @cached_property
    def _routines(self) -> dict[int, Routine]:
        """The routines by code."""
        from fastmodel.handlers import HANDLERS
        from fastmodel.routines import loop_bindings, routines, variants
        from fastmodel.translator.regions import Routine

        going_on = {handler.name for handler in HANDLERS if handler.falls_through}
        bindings = loop_bindings(threaded=True)
        found = {name: Routine(text, name in going_on) for name, text in routines(bindings).items()}
        others = {name: found[handler.name] for name, (handler, _) in variants(bindings).items()}
        return {self.codes[name]: routine for name, routine in (found | others).items()}

    def translator(self, block: int) -> Translator | None:
        """A translator of hot code for the state block at an address, where there is threaded code."""
        if not self._region_target.convention.threaded:
            return None
        from fastmodel.translator.hotness import Translator

        return Translator(self._region_target, lambda: self._routines, self._code.address, block)


class PlainBackend:
    """The same texts as plain Python: slow, but nothing needs to be compiled, and a debugger can step through."""

    name = "python"

    def __init__(self) -> None:
        from fastmodel.compiler.plain import PlainProgram
        from fastmodel.compiler.program import instance
        from fastmodel.routines import ENTRIES, loop_bindings, routines

        bindings = loop_bindings(threaded=False)
        self._program = PlainProgram({"invoke": self._invoke})
        found = routines(bindings)
        self._instances = list(found.values())
        self._routines: dict[int, Callable[[int, int, int], int]] = {}
        self.codes = {name: number for number, name in enumerate(found, start=1)}
        self._run = self._program.function(instance(ENTRIES["run"], bindings))
        self._run_cases = self._program.function(instance(ENTRIES["run_cases"], bindings))

    def run(self, state: int, budget: int) -> int:
        """Calls `loop.run`."""
        remaining: int = self._run(state, budget)
        return remaining

    def run_cases(self, state: int, row: int, count: int) -> None:
        """Calls `cases.run_cases`."""
        self._run_cases(state, row, count)

    def translator(self, _block: int) -> Translator | None:
        """There is none."""
        return None

    def _invoke(self, state: int, place: int, remaining: int) -> int:
        number = field(64, place + CODE)
        routine = self._routines.get(number)
        if routine is None:
            routine = self._routines[number] = self._program.function(self._instances[number - 1])
        return routine(state, place, remaining)


@cache
def choose(name: str | None) -> Backend:
    """The backend of this name; by default the native one if llvmlite is there."""
    if name == PlainBackend.name:
        return PlainBackend()
    try:
        return NativeBackend()
    except ImportError:
        if name is not None:
            raise
        return PlainBackend()
