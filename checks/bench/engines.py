"""The engines that are measured.  Each prepares a kernel, runs it, and tells its result and what it cost."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from checks.bench.kernels import BUFFER_SIZE, Kernel
from checks.bench.machine import BUFFER, CODE, END, MEMORY_SIZE, STACK_TOP, make_machine, prepare
from refmodel.model import Model

RAX = 0
REFERENCE_STEPS = 20_000
WHOLE_RUN = 1 << 40


@dataclass(frozen=True, slots=True)
class Run:
    """One run: CPU seconds, instructions if the engine counts them, and the result if the kernel ended."""

    seconds: float
    instructions: int | None
    result: int | None


class Engine(Protocol):
    """An engine that is measured; `takes_data` if kernels can have data in the buffer."""

    name: str
    takes_data: bool

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Puts the kernel into memory; not measured."""
        ...

    def run(self) -> Run:
        """Runs the kernel that was prepared."""
        ...


class Fast:
    """The fast model, at once until the kernel ends."""

    name = "fast"
    takes_data = True
    translates = True

    def __init__(self, model: Model) -> None:
        from fastmodel import FastEngine

        self._machine = make_machine(model)
        self._engine = FastEngine(model.program, self._machine, translates=self.translates)

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Puts the kernel into memory."""
        prepare(self._machine, code, kernel)

    def run(self) -> Run:
        """Runs the kernel."""
        seconds, instructions = timed(lambda: self._engine.run(WHOLE_RUN))
        has_ended = self._machine.RIP == END
        return Run(seconds, instructions, self._machine.GPR[RAX] if has_ended else None)


class Interpreter(Fast):
    """The fast model without its translator."""

    name = "interpreter"
    translates = False


class Reference:
    """The reference model: only the first instructions of a kernel, since it takes too long for all."""

    name = "reference"
    takes_data = True

    def __init__(self, model: Model) -> None:
        self._machine = make_machine(model)
        self._cycle: Callable[[Any], Any] = model.functions["cycle"]

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Puts the kernel into memory."""
        prepare(self._machine, code, kernel)

    def run(self) -> Run:
        """Runs the kernel's first instructions."""
        seconds, _ = timed(self._steps)
        return Run(seconds, REFERENCE_STEPS, None)

    def _steps(self) -> int:
        machine, cycle = self._machine, self._cycle
        for _ in range(REFERENCE_STEPS):
            cycle(machine)
        return REFERENCE_STEPS


class Unicorn:
    """Unicorn, at once, on flat memory without paging of the guest's own.  Raises ImportError without it."""

    name = "unicorn"
    takes_data = True

    def __init__(self, _model: Model) -> None:
        unicorn: Any = import_module("unicorn")
        self._registers: Any = import_module("unicorn.x86_const")
        self._emulator: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._emulator.mem_map(0, MEMORY_SIZE)

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Puts the kernel into memory."""
        emulator = self._emulator
        emulator.mem_write(CODE, code)
        emulator.ctl_remove_cache(CODE, CODE + len(code))
        for offset, data in kernel.data:
            emulator.mem_write(BUFFER + offset, data)
        emulator.mem_write(STACK_TOP, END.to_bytes(8, "little"))
        emulator.reg_write(self._registers.UC_X86_REG_RDI, BUFFER)
        emulator.reg_write(self._registers.UC_X86_REG_RSP, STACK_TOP)

    def run(self) -> Run:
        """Runs the kernel."""
        seconds, _ = timed(lambda: self._emulator.emu_start(CODE, END))
        return Run(seconds, None, self._emulator.reg_read(self._registers.UC_X86_REG_RAX))


class Native:
    """The processor itself.  Raises ImportError where it cannot run the kernels."""

    name = "native"
    takes_data = True

    def __init__(self, _model: Model) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise ImportError("native execution needs x86-64 Linux")
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._buffer = mmap.mmap(-1, BUFFER_SIZE)
        self._arguments = [ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in (self._code, self._buffer)]
        self._function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(self._arguments[0])

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Puts the kernel into memory."""
        self._code[: len(code)] = code
        for offset, data in kernel.data:
            self._buffer[offset : offset + len(data)] = data

    def run(self) -> Run:
        """Calls the kernel."""
        seconds, result = timed(lambda: int(self._function(self._arguments[1])))
        return Run(seconds, None, result)


def timed(act: Callable[[], Any]) -> tuple[float, int]:
    """CPU seconds of this process, and what `act` returned."""
    begin = time.process_time()
    result = act()
    return time.process_time() - begin, result or 0
