"""The engines that can be compared: each executes one instruction at a time on a machine of the reference model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from checks.errors import UsageError
from checks.fuzz.bases import MEMORY_SIZE
from checks.fuzz.cycle import DONE, REFUSED, Cycle, Step
from checks.fuzz.generate import Scope
from checks.fuzz.states import special_states
from grammar.ir import Program
from refmodel.memory import RecordingMemory
from refmodel.model import Model


class Engine(Protocol):
    """Executes instructions on its own `machine`, which is prepared from outside before each case.

    `cycle` is what the reference does with an instruction that the engine refuses, and beside it with every one.
    """

    name: str
    machine: Any
    cycle: Cycle
    scope: Scope

    def step(self) -> Step:
        """One instruction."""
        ...

    def instructions(self, program: Program) -> Sequence[str]:
        """The instructions that it can execute at all."""
        ...


@runtime_checkable
class RunsAtOnce(Protocol):
    """An engine that can also execute several instructions in one call."""

    def run(self, steps: int) -> int:
        """Executes up to `steps` instructions; returns how many completed."""
        ...


class ReferenceEngine:
    """The reference model."""

    name = "reference"
    scope = Scope()

    def __init__(self, model: Model, cycle: Cycle | None = None) -> None:
        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self.cycle = cycle or Cycle(model)

    def step(self) -> Step:
        """One instruction."""
        return self.cycle(self.machine)

    def instructions(self, program: Program) -> Sequence[str]:
        """All of them."""
        return list(program.instructions)


class FastEngine:
    """The fast model; what it refuses is left to the caller."""

    name = "fast"

    def __init__(self, model: Model, backend: str | None = None) -> None:
        from fastmodel import FastEngine as Fast

        self.scope = Scope(states=special_states(model))

        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self.cycle = Cycle(model)
        self._engine = Fast(model.program, self.machine, backend)

    def step(self) -> Step:
        """One instruction if the fast model takes it."""
        return DONE if self._engine.execute_one() else REFUSED

    def run(self, steps: int) -> int:
        """Instructions until the fast model refuses one."""
        return self._engine.run(steps)

    def instructions(self, program: Program) -> Sequence[str]:
        """Those that have a handler."""
        from fastmodel import coverage

        return [name for name, is_handled in coverage(program).items() if is_handled]


def _compiled(model: Model) -> Engine:
    from checks.fuzz.compiled import CompiledEngine

    return CompiledEngine(model)


def _unicorn(model: Model) -> Engine:
    from checks.fuzz.unicorn import UnicornEngine

    return UnicornEngine(model)


def _bochs(model: Model) -> Engine:
    from checks.fuzz.bochs import BochsEngine

    return BochsEngine(model)


Factory = Callable[[Model], Engine]
ENGINES: Mapping[str, Factory] = {
    "reference": ReferenceEngine,
    "fast": FastEngine,
    "compiled": _compiled,
    "unicorn": _unicorn,
    "bochs": _bochs,
}


def tested_engine(names: str) -> Factory:
    """The engine that `--engine a,b` compares with the reference; one name alone is that engine."""
    chosen = names.split(",")
    others = [name for name in chosen if name != ReferenceEngine.name]
    if len(chosen) > 2 or len(others) != 1 or others[0] not in ENGINES:
        known = ", ".join(name for name in ENGINES if name != ReferenceEngine.name)
        raise UsageError(f"--engine takes one of {known}, with reference beside it or not; not '{names}'")
    return ENGINES[others[0]]
