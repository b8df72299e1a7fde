"""The two ways to run the texts: compiled to native code, or as plain Python where llvmlite is missing.

Both give every routine a code, the word that the decoder puts into a decoded instruction, and run the loop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Protocol, cast

from fastmodel import cases, loop
from fastmodel.compiler import primitives
from fastmodel.compiler.plain import PlainProgram
from fastmodel.compiler.primitives import field
from fastmodel.compiler.program import Instance, Meaning, instance
from fastmodel.decoded import CODE
from fastmodel.handlers import HANDLERS
from fastmodel.handlers.branches import jump_if
from fastmodel.handlers.registry import BRANCH, CONDITIONAL, JUMP, REPEAT, STEP, Handler
from fastmodel.state import PINNED

if TYPE_CHECKING:
    from fastmodel.translator.hotness import Translator
    from fastmodel.translator.regions import Routine

ROUTINES = {
    STEP: loop.step,
    BRANCH: loop.branch,
    CONDITIONAL: loop.branch,
    REPEAT: loop.branch,
    JUMP: loop.jump,
}
ENTRIES: dict[str, Callable[..., int]] = {
    "run": loop.run,
    "run_cases": cases.run_cases,
    "run_registers": cases.run_registers,
}
REFUSE = "refuse"
END_OF_TRACE = "end_of_trace"


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


def routines(bindings: dict[str, Meaning]) -> dict[str, Instance]:
    """The routines by name: that of the handler, or REFUSE and END_OF_TRACE."""
    found = {REFUSE: instance(loop.refuse, bindings), END_OF_TRACE: instance(loop.end_of_trace, bindings)}
    for handler in HANDLERS:
        found[handler.name] = instance(ROUTINES[handler.flow], _with_handler(bindings, handler))
    return found


def routine_names() -> Iterator[str]:
    """The names of `routines` and `variants`, in their order."""
    yield from (REFUSE, END_OF_TRACE)
    yield from (handler.name for handler in HANDLERS)
    for handler in HANDLERS:
        if handler.has_unseen:
            yield handler.unseen_name
        yield from map(handler.fused_name, handler.fused)


def variants(bindings: dict[str, Meaning]) -> dict[str, tuple[Handler, Instance]]:
    """The routines for special places, by name, each with the handler in whose place it stands."""
    found = {}
    for handler in HANDLERS:
        bound = _with_handler(bindings, handler)
        if handler.has_unseen:
            found[handler.unseen_name] = handler, instance(loop.unseen_step, bound)
        for condition in handler.fused:
            both = {**bound, "CONDITION": condition, "FUSED": 1, "BEFORE": bound["HANDLER"]}
            both["HANDLER"] = cast("FunctionType", jump_if)
            found[handler.fused_name(condition)] = handler, instance(loop.branch, both)
    return found


def _with_handler(bindings: dict[str, Meaning], handler: Handler) -> dict[str, Meaning]:
    return {**bindings, **dict(handler.bindings), "HANDLER": cast("FunctionType", handler.function)}


def loop_bindings(*, threaded: bool) -> dict[str, Meaning]:
    """What the run loop is specialised by."""
    go_on = primitives.proceed if threaded else loop.hand_over
    return {"THREADED": int(threaded), "GO_ON": cast("FunctionType", go_on), "FUSED": 0}


class NativeBackend:
    """Native code, by way of the cache."""

    name = "native"

    def __init__(self, *, threaded: bool | None = None) -> None:
        from fastmodel.compiler import build
        from fastmodel.compiler.llvm import module_text

        target = build.Target.host(threaded=threaded, pinned=PINNED, effort=build.ROUTINES)
        bindings = loop_bindings(threaded=target.convention.threaded)

        def text() -> str:
            others = {name: routine for name, (_, routine) in variants(bindings).items()}
            entries = {name: instance(f, bindings) for name, f in ENTRIES.items()}
            return module_text(routines(bindings) | others, entries, target.convention)

        self._region_target = replace(target, effort=build.THOROUGH)
        self._code = build.load(target, "fastmodel", build.digest_of(sources()), text)
        names = list(routine_names())
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
        bindings = loop_bindings(threaded=False)
        self._program = PlainProgram({"invoke": self._invoke})
        found = routines(bindings)
        self._instances = list(found.values())
        self._routines: dict[int, Callable[[int, int, int], int]] = {}
        self.codes = {name: number for number, name in enumerate(found, start=1)}
        self._run = self._program.function(instance(loop.run, bindings))
        self._run_cases = self._program.function(instance(cases.run_cases, bindings))

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


def sources() -> list[Path]:
    """The files that the compiled code depends on."""
    return sorted(Path(__file__).parent.rglob("*.py"))


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
