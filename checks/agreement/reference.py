"""The reference model with the linear memory of the proofs: what the contract of `checks.trap` leaves open is random.

The functions that the contract replaces are replaced here too, by the same text in Python: an access faults or exits as
unknown functions of its arguments say, and otherwise reads or writes the bytes of a linear memory.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from checks.agreement.start import Bytes, Elements, Start
from checks.symbolic.values import leaves, width_of
from checks.trap.contract import FAULT, LINEAR, LOADS, STORES, VM_EXIT
from checks.trap.forms import Form, OperandKind, Place
from checks.trap.unknown import zero
from grammar import ir
from refmodel.access import (
    Accessors,
    ImmediateAccess,
    MemoryAccess,
    OperandAccess,
    RegisterAccess,
    SpecialAccess,
)
from refmodel.addressing import ModRM
from refmodel.encoding import other_address_size
from refmodel.model import Model

COMPLETES = "completes"


class Reference:
    """Runs instruction forms on the reference, from given start states.  It takes the model for itself."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._start: Start
        self._linear: Bytes
        self._machine = model.machine(1 << 12)
        self._accessors = Accessors(model.functions)
        model.namespace["Machine"].output = lambda *_: None  # `vmptrld` would take the VMCS away
        for function in model.program.functions.values():
            if function.source in LOADS or function.source in STORES:
                model.namespace[function.name] = self._contract(function)

    def run(self, form: Form, start: Start, operands: dict[str, int]) -> tuple[str, Any, Any]:
        """(how it ends, what the abort carries, the machine after it).  `operands` are the values of the symbols."""
        machine = self._prepared(start, operands)
        accesses = [self._access(form, name, kind, operands) for name, kind in _kinds(form)]
        try:
            self.model.instructions[form.body.name](machine, *accesses)
        except self.model.namespace["Abort"] as abort:
            return type(abort).__name__.removesuffix("Abort"), abort.value, machine
        return COMPLETES, None, machine

    def linear(self) -> Bytes:
        """The linear memory after the latest run."""
        return self._linear

    def _prepared(self, start: Start, operands: dict[str, int]) -> Any:
        machine = self._machine
        machine.reset()
        self._start = start
        self._linear = Bytes(lambda address: start.element(LINEAR, (address,)))
        machine.PHYSICAL = Bytes(lambda address: start.element("PHYSICAL", (address,)))
        for variable in self.model.program.state.values():
            place = machine.vmcs if variable.space == "vmcs" else machine
            if variable.space != "ghost" and not isinstance(variable.type, ir.Struct):
                setattr(place, variable.name, _initial(start, variable))
        length = operands["operands.length"]
        code_size = self.model.functions["code_size"](machine)
        machine.NEXT_RIP = machine.RIP + length & self.model.decoders[code_size].offset_mask
        machine.instruction_length = length
        repeat = 0xF3 if operands["operands.repeat"] else 0xF2 if operands["operands.repne"] else 0
        address = other_address_size(code_size) if operands["operands.address_size"] else code_size
        size = 16 if operands["operands.word"] else 64 if operands["operands.quadword"] else 32
        prefixes = SimpleNamespace(repeat=repeat)
        machine.current = SimpleNamespace(address_size=address, size=size, prefixes=prefixes)
        return machine

    def _access(self, form: Form, name: str, kind: OperandKind, operands: dict[str, int]) -> OperandAccess:
        number = operands.get(f"{name}.index", 0) if kind.fixed is None else kind.fixed
        if kind.place is Place.REGISTER:
            high = kind.width == 8 and kind.fixed is None and not operands["operands.rex"] and 4 <= number < 8
            return RegisterAccess(self._accessors, number, kind.width or 0, high)
        if kind.place is Place.NUMBER:
            code = dict(
                zip(
                    form.instruction.operands, next(iter(form.encoded.values())).pattern.operands, strict=True
                )
            )[name]
            return SpecialAccess(code.kind, number)
        if kind.place is Place.VALUE:
            value = operands.get(f"{name}.value", 0) if kind.fixed is None else kind.fixed
            return ImmediateAccess(value, kind.width or 0)
        return self._memory(name, kind, operands)

    def _memory(self, name: str, kind: OperandKind, operands: dict[str, int]) -> OperandAccess:
        """An address that is a constant; of a string operand, the register's."""
        segment, address = operands[f"{name}.segment"], operands.get(f"{name}.address", 0)
        place = ModRM(0, 0, base=kind.fixed, displacement=address if kind.fixed is None else 0)
        bits = self._machine.address_size if kind.fixed is not None else 64
        access = _Memory(self._accessors, place, kind.width, segment, bits)
        access.symbolic_displacement = operands[f"{name}.displacement"]
        access.symbolic_addressing = operands[f"{name}.addressing"]
        return access

    def _contract(self, function: ir.Function) -> Callable[..., Any]:
        """The replacement of a function that accesses memory."""
        names = [parameter.name for parameter in function.parameters]
        result = (
            width_of(function.result) // 8 if function.source in LOADS and function.result is not None else 0
        )
        written = next((width_of(p.type) // 8 for p in function.parameters if p.name == "value"), 0)

        def access(machine: Any, *values: int) -> Any:
            given = dict(zip(names, values, strict=True))
            self._may_abort(machine, function, tuple(int(v) for n, v in given.items() if n != "value"))
            if result:
                return self._linear.read(given["address"], result)
            return self._linear.write(given["address"], given["value"], written)

        return access

    def _may_abort(self, machine: Any, function: ir.Function, known: tuple[int, ...]) -> None:
        namespace, aborts = self.model.namespace, self.model.program.aborts
        fault = self._start.element(f"{function.name}.fault", known)
        if fault & 1:
            raise namespace[f"{FAULT}Abort"](namespace[FAULT](*_fields(fault >> 1, aborts[FAULT].type)))
        if machine.IN_NON_ROOT and self._start.element(f"{function.name}.exits", known):
            nothing = _fields(0, aborts[VM_EXIT].type)
            raise namespace[f"{VM_EXIT}Abort"](namespace[VM_EXIT](*nothing))


class _Memory(MemoryAccess):
    """A memory operand whose displacement and addressing are symbols of their own, whatever its address is."""

    symbolic_displacement = 0
    symbolic_addressing = 0

    @property
    def addressing(self) -> int:
        """The value of the symbol."""
        return self.symbolic_addressing

    def displacement(self, _machine: Any) -> int:
        """The value of the symbol."""
        return self.symbolic_displacement


def _kinds(form: Form) -> list[tuple[str, OperandKind]]:
    return list(zip(form.instruction.operands, form.kinds, strict=True))


def _initial(start: Start, variable: ir.StateVariable) -> Any:
    name = variable.name
    if not variable.indices:
        value = start.scalars[name]
        return bool(value) if isinstance(variable.type, ir.Bool) else value
    if name in start.fixed:
        return list(start.fixed[name])
    return Elements(lambda index: start.element(name, index if isinstance(index, tuple) else (index,)))


def _fields(bits: int, type_: ir.Struct) -> list[int]:
    """The fields of a record from the bits of a vector, the first in the lowest."""
    values = []
    for _, _, leaf in leaves(zero(type_), type_):
        width = width_of(leaf)
        values.append(bits & (1 << width) - 1)
        bits >>= width
    return values
