"""The engines that can be compared: each executes one instruction at a time on a machine of the reference model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from checks.commands.errors import UsageError
from checks.fuzz.bases import MEMORY_SIZE
from grammar.ir import Program
from refmodel.decoder import NotModelled
from refmodel.model import Model
from refmodel.runtime import Abort

Step = str
DONE: Step = "done"  # the instruction was executed, or its event delivered
REFUSED: Step = "refused"  # the engine leaves it to the reference; nothing has changed
EXITED: Step = "exited"  # a VM exit
NOT_MODELLED: Step = "not modelled"  # the bytes are in no row of the specification


class Engine(Protocol):
    """Executes instructions on its own `machine`, which is prepared from outside before each case."""

    name: str
    machine: Any

    def step(self) -> Step:
        """One instruction."""
        ...

    def instructions(self, program: Program) -> Sequence[str]:
        """The instructions that it can execute at all."""
        ...


class Cycle:
    """The specification's own `cycle`: one instruction, with the delivery of the event it raises."""

    def __init__(self, model: Model) -> None:
        self._cycle = model.functions["cycle"]
        self._exit: type[Abort] = model.namespace["VmExitAbort"]

    def __call__(self, machine: Any) -> Step:
        """One cycle of any machine of the model."""
        try:
            self._cycle(machine)
        except NotModelled:
            return NOT_MODELLED
        except Abort as abort:
            return EXITED if isinstance(abort, self._exit) else NOT_MODELLED
        return DONE


class ReferenceEngine:
    """The reference model."""

    name = "reference"

    def __init__(self, model: Model) -> None:
        self.machine = model.machine(MEMORY_SIZE)
        self._cycle = Cycle(model)

    def step(self) -> Step:
        """One instruction."""
        return self._cycle(self.machine)

    def instructions(self, program: Program) -> Sequence[str]:
        """All of them."""
        return list(program.instructions)


class FastEngine:
    """The fast model; what it refuses is left to the caller."""

    name = "fast"

    def __init__(self, model: Model, backend: str | None = None) -> None:
        from fastmodel import FastEngine as Fast

        self.machine = model.machine(MEMORY_SIZE)
        self._execute_one: Callable[[], bool] = Fast(model.program, self.machine, backend).execute_one

    def step(self) -> Step:
        """One instruction if the fast model takes it."""
        return DONE if self._execute_one() else REFUSED

    def instructions(self, program: Program) -> Sequence[str]:
        """Those that have a handler."""
        from fastmodel import coverage

        return [name for name, is_handled in coverage(program).items() if is_handled]


Factory = Callable[[Model], Engine]
ENGINES: Mapping[str, Factory] = {"reference": ReferenceEngine, "fast": FastEngine}


def pair_of(names: str) -> tuple[Factory, Factory]:
    """The two engines that `--engine a,b` names; one name is compared with the reference."""
    chosen = names.split(",")
    if len(chosen) == 1:
        chosen.append("reference")
    unknown = [name for name in chosen if name not in ENGINES]
    if unknown or len(chosen) != 2 or chosen[0] == chosen[1]:
        raise UsageError(f"--engine takes two of {', '.join(ENGINES)} separated by a comma, not '{names}'")
    tested, reference = sorted((ENGINES[name] for name in chosen), key=lambda e: e is ReferenceEngine)
    return tested, reference
