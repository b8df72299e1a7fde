"""A compiled module with its state block: what running short cases and running guests have in common."""

from __future__ import annotations

import ctypes
import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmodel.reference.block import StateBlock
from fastmodel.reference.decoding import DecodedInstructions
from fastmodel.reference.layout import OFFSET, Layout, cache_bytes
from fastmodel.reference.purpose import Purpose
from fastmodel.sources import digest_of
from refmodel import generate
from refmodel.model import Model

JOURNAL_LENGTH = 4096  # entries


class Compiled:
    """The specification compiled for a purpose, with a block for the state of a machine.

    Raises ImportError without llvmlite.
    """

    def __init__(self, model: Model, machine: Any, purpose: Purpose) -> None:
        from fastmodel.compiler import build  # needs llvmlite, which may be missing

        def make() -> tuple[str, str]:
            from fastmodel.reference.module import Module  # looks at all of the program

            module = Module(model.program, purpose)
            return module.text(), json.dumps(module.used)

        target = build.Target.host(threaded=False, effort=build.QUICK)
        self._code = build.load(target, purpose.name, _content(model), make)
        variables, cached = json.loads(self._code.note)
        self.layout = Layout.of(model.program, variables, cached, purpose.list_length)
        self.block = StateBlock(self.layout, machine)
        self.decoded = DecodedInstructions(model, self.layout)
        self._kept: list[Any] = []
        self.caches: dict[
            str, int
        ] = {}  # cached function → the address of its table, which begins with a count
        self._prepare(model, machine)

    def _prepare(self, model: Model, machine: Any) -> None:
        header = {
            "MEMORY": machine.PHYSICAL.address,
            "MEMORY_SIZE": machine.PHYSICAL.size,
            "JOURNAL": self.allocate(16 * JOURNAL_LENGTH),
            "JOURNAL_LIMIT": JOURNAL_LENGTH,
            "DECODED": self.decoded.table,
            "DECODE": self.decoded.function,
        }
        for name, value in header.items():
            self.block.put(OFFSET[name], value)
        for name, offset in self.layout.caches.items():
            keys = len(model.program.functions[name].keys)
            self.caches[name] = self.allocate(cache_bytes(keys))
            self.block.put(offset, self.caches[name])

    def allocate(self, size: int) -> int:
        """Memory, zero at first, that lives as long as this; returns its address."""
        self._kept.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self._kept[-1])

    def function(self, name: str, arguments: int) -> Callable[..., int]:
        """A function of the module."""
        return self._code.function(name, arguments)


def _content(model: Model) -> bytes:
    """What the module's text depends on: the program, our files, and those of the generator that it uses."""
    here, generator = Path(__file__).parent, Path(generate.__file__).parent
    program = (model.program.key or model.text).encode()
    files = sorted([*here.parent.glob("*.py"), *here.glob("*.*"), *generator.glob("*.py")])
    return hashlib.sha256(program).digest() + digest_of(files)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: it must not arrive in a call from native code."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
