"""The reference model with the linear memory of the proofs: what the contract of `checks.trap` leaves open is unknown.

The functions that the contract replaces are replaced here too, by the same text in Python: an access faults or exits as
unknown functions of its arguments say, and otherwise reads or writes the bytes of a linear memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, is_not
from types import SimpleNamespace
from typing import Any, cast

from checks.agreement.memory import Bytes, Elements
from checks.agreement.operands import Access, accesses
from checks.agreement.start import Image, Start
from checks.agreement.values import Unknowns
from checks.symbolic.values import leaves, width_of
from checks.trap.contract import FAULT, LINEAR, LOADS, VM_EXIT, contract_functions
from checks.trap.forms import Form
from checks.trap.unknown import zero
from grammar import ir
from refmodel.access import Accessors
from refmodel.encoding import REP, REPNE, other_address_size
from refmodel.model import Model

COMPLETES = "completes"


@dataclass(frozen=True, slots=True)
class After:
    """How a run ended, what its abort carries, and the state after it: scalars in the order of an image's, short
    indexed state, and what was written of other indexed state and memories.  The last two are good until the next run.
    """

    kind: str
    carried: Any
    scalars: tuple[int, ...]
    lists: dict[str, list[int]]
    written: dict[str, dict[Any, int]]


class Reference:
    """Runs instruction forms on the reference, from given start states.  It takes the model for itself."""

    def __init__(self, model: Model, unknowns: Unknowns) -> None:
        self.model, self._unknowns = model, unknowns
        self._machine = machine = model.machine(1 << 12)
        self._machine.current = SimpleNamespace(prefixes=SimpleNamespace())
        self._accessors = Accessors(model.functions)
        model.namespace["Machine"].output = lambda *_: None  # `vmptrld` would take the VMCS away
        variables = [v for v in model.program.state.values() if v.space != "ghost"]
        self._homes = {v.name: machine.vmcs if v.space == "vmcs" else machine for v in variables}
        paths = [f"vmcs.{v.name}" if v.space == "vmcs" else v.name for v in variables if not v.indices]
        self._scalars: Callable[[Any], tuple[int, ...]] = attrgetter(*paths)
        self._sparse = {
            v.name: Elements(v.name, unknowns)
            for v in variables
            if v.indices and not isinstance(getattr(machine, v.name), list)
        }
        self._memories = {name: Bytes(name, unknowns) for name in (*model.program.memories, LINEAR)}
        for name, one in (*self._sparse.items(), *self._memories.items()):
            if name != LINEAR:
                setattr(machine, name, one)
        for function in contract_functions(model.program):
            model.namespace[function.name] = self._contract(function)
        self._image: Image
        self._latest: tuple[int, ...]

    def operands(self, form: Form) -> list[Access]:
        """The operands of a form, for `run`."""
        return accesses(form, self._accessors)

    def place(self, image: Image) -> None:
        """Gives the machine a state from which those of the next runs differ little."""
        for name, value in image.scalars.items():
            setattr(self._homes[name], name, value)
        self._image, self._latest = image, tuple(image.scalars.values())

    def run(self, form: Form, operands: list[Access], start: Start) -> After:
        """Runs a form from a state of the image that was placed last."""
        machine = self._machine
        self._restore()
        self._begin(start)
        kind, carried = COMPLETES, None
        given, bits = start.operands, machine.current.address_size
        try:
            self.model.instructions[form.body.name](machine, *[access(given, bits) for access in operands])
        except self.model.namespace["Abort"] as abort:
            kind, carried = type(abort).__name__.removesuffix("Abort"), abort.value
        self._latest = self._scalars(machine)
        written: dict[str, dict[Any, int]] = {name: one for name, one in self._sparse.items() if one}
        written |= {name: one.written for name, one in self._memories.items() if one.written}
        return After(
            kind, carried, self._latest, {name: getattr(machine, name) for name in start.lists}, written
        )

    def _restore(self) -> None:
        """Takes back what the latest run did to the image."""
        image = self._image.scalars
        for name in compress(image, map(is_not, image.values(), self._latest)):
            setattr(self._homes[name], name, image[name])
        for one in self._sparse.values():
            if one:
                one.clear()
        for memory in self._memories.values():
            memory.written = {}

    def _begin(self, start: Start) -> None:
        """Makes the machine what the start says, about to execute an instruction."""
        machine, operands, unknowns = self._machine, start.operands, self._unknowns
        unknowns.salt, unknowns.given = start.salt, start.given
        for name in start.changed:
            setattr(self._homes[name], name, start.scalars[name])
        for name, values in start.lists.items():
            setattr(machine, name, values[:])
        code_size = self.model.functions["code_size"](machine)
        machine.instruction_length = length = operands["operands.length"]
        machine.NEXT_RIP = machine.RIP + length & self.model.decoders[code_size].offset_mask
        current = machine.current
        current.prefixes.repeat = (
            REP if operands["operands.repeat"] else REPNE if operands["operands.repne"] else 0
        )
        current.address_size = (
            other_address_size(code_size) if operands["operands.address_size"] else code_size
        )
        current.size = 16 if operands["operands.word"] else 64 if operands["operands.quadword"] else 32

    def _contract(self, function: ir.Function) -> Callable[..., Any]:
        """The replacement of a function that accesses memory."""
        names = [parameter.name for parameter in function.parameters]
        address = names.index("address")
        known = [number for number, name in enumerate(names) if name != "value"]
        fails, exits = f"{function.name}.fault", f"{function.name}.exits"
        unknown, memory = self._unknowns.value, self._memories[LINEAR]

        def fail_or_not(machine: Any, values: tuple[int, ...]) -> None:
            point = tuple([int(values[number]) for number in known])
            fault = unknown(fails, point)
            if fault & 1:
                raise self._abort(FAULT, fault >> 1)
            if machine.IN_NON_ROOT and unknown(exits, point) & 1:
                raise self._abort(VM_EXIT, 0)

        def load(machine: Any, *values: int) -> int:
            fail_or_not(machine, values)
            return memory.read(values[address], length)

        def store(machine: Any, *values: int) -> None:
            fail_or_not(machine, values)
            memory.write(values[address], length, values[value])

        if function.source in LOADS:
            length = width_of(cast(ir.Type, function.result)) // 8
            return load
        value = names.index("value")
        length = width_of(function.parameters[value].type) // 8
        return store

    def _abort(self, kind: str, bits: int) -> Exception:
        """An abort that carries a record of so many bits."""
        namespace, type_ = self.model.namespace, self.model.program.aborts[kind].type
        abort: Exception = namespace[f"{kind}Abort"](namespace[kind](*_fields(bits, type_)))
        return abort


def _fields(bits: int, type_: ir.Struct) -> Iterator[int]:
    """The fields of a record from the bits of a vector, the first in the lowest."""
    for _, _, leaf in leaves(zero(type_), type_):
        width = width_of(leaf)
        yield bits & (1 << width) - 1
        bits >>= width
