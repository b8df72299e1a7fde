"""Finding out what the architecture leaves undefined: the specification with every undefined value inverted.

What then comes out differently is undefined, and no engine is wrong for giving either value.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import Any

from checks.fuzz.bases import MEMORY_SIZE
from checks.fuzz.cycle import Cycle, Step
from grammar import ir
from refmodel.memory import RecordingMemory
from refmodel.model import Model, build


def inverted(program: ir.Program) -> ir.Program:
    """The same program, except that `undefined(e)` gives the complement of e."""
    result: ir.Program = _invert(program)
    return result


def _invert(node: Any) -> Any:
    match node:
        case ir.Undefined(type_, value, _):
            return ir.Unary(type_, "not" if type_ == ir.BOOL else "~", _invert(value))
        case tuple():
            return tuple(_invert(part) for part in node)
        case dict():
            return {key: _invert(part) for key, part in node.items()}
        case _ if dataclasses.is_dataclass(node) and not isinstance(node, type):
            return type(node)(*(_invert(getattr(node, f.name)) for f in dataclasses.fields(node) if f.init))
    return node


class Inverted:
    """Makes a step with every undefined value inverted, on a machine of its own of the plain model."""

    def __init__(self, model: Model, cycle: Cycle) -> None:
        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self._plain = model
        self._kind = cycle

    def step(self, machine: Any) -> Step:
        """One instruction, which must leave the machine's state as it would be but for what is undefined.

        Steps before it are to be made with plain values: an undefined value that was inverted twice would be as it was.
        """
        machine.decoders = self._model.decoders
        outcome = self._cycle(machine)
        machine.decoders = self._plain.decoders
        return outcome

    @cached_property
    def _model(self) -> Model:
        key = hashlib.sha256(self._plain.text.encode()).hexdigest()
        return build(inverted(self._plain.program), f"{key}-inverted")

    @cached_property
    def _cycle(self) -> Cycle:
        return self._kind.of(self._model)
