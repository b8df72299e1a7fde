"""The operands of a form for the reference, from the values of the symbols that the terms have for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from checks.trap.forms import Form, OperandKind, Place
from refmodel.access import (
    Accessors,
    ImmediateAccess,
    MemoryAccess,
    OperandAccess,
    RegisterAccess,
    SpecialAccess,
)
from refmodel.addressing import ModRM

Values = Mapping[str, int]
Access = Callable[[Values, int], OperandAccess]
"""An operand, from the values and the address size of the instruction in bits."""


def accesses(form: Form, accessors: Accessors) -> list[Access]:
    """The operands of a form; what one returns is good until it is called again."""
    codes = next(iter(form.encoded.values())).pattern.operands
    return [
        _access(name, kind, code.kind, accessors)
        for name, kind, code in zip(form.instruction.operands, form.kinds, codes, strict=True)
    ]


def _access(name: str, kind: OperandKind, code: str, accessors: Accessors) -> Access:
    if kind.place is Place.REGISTER:
        return _register(name, kind, accessors)
    if kind.place is Place.NUMBER:
        special = [SpecialAccess(code, number) for number in range(kind.limit)]
        return lambda values, _bits: special[values[f"{name}.index"] if kind.fixed is None else kind.fixed]
    if kind.place is Place.VALUE:
        return _immediate(name, kind)
    return _address(name, kind, accessors) if kind.fixed is None else _string(name, kind, accessors)


def _register(name: str, kind: OperandKind, accessors: Accessors) -> Access:
    width, index = kind.width or 0, f"{name}.index"
    low = [RegisterAccess(accessors, number, width, high=False) for number in range(16)]
    if kind.fixed is not None:
        return lambda _values, _bits: low[kind.fixed or 0]
    if width != 8:
        return lambda values, _bits: low[values[index]]
    byte = [*low[:4], *[RegisterAccess(accessors, n, 8, high=True) for n in range(4, 8)], *low[8:]]
    return lambda values, _bits: (low if values["operands.rex"] else byte)[values[index]]


def _immediate(name: str, kind: OperandKind) -> Access:
    immediate = ImmediateAccess(kind.fixed or 0, kind.width or 0)

    def access(values: Values, _bits: int) -> OperandAccess:
        if kind.fixed is None:
            immediate.value = values.get(f"{name}.value", 0)
        return immediate

    return access


def _address(name: str, kind: OperandKind, accessors: Accessors) -> Access:
    """An address that is a constant."""
    memory = _Memory(accessors, ModRM(0, 0), kind.width, 0, 64)

    def access(values: Values, _bits: int) -> OperandAccess:
        address = values[f"{name}.address"]
        memory.address = lambda _machine: address  # type: ignore[method-assign]
        return memory.with_symbols(name, values)

    return access


def _string(name: str, kind: OperandKind, accessors: Accessors) -> Access:
    """The address that a register holds."""
    place = ModRM(0, 0, base=kind.fixed)
    by_size = {bits: _Memory(accessors, place, kind.width, 0, bits) for bits in (16, 32, 64)}
    return lambda values, bits: by_size[bits].with_symbols(name, values)


class _Memory(MemoryAccess):
    """A memory operand whose displacement and addressing are symbols of their own, whatever its address is."""

    _displacement = 0
    _addressing = 0

    def with_symbols(self, name: str, values: Values) -> _Memory:
        """The operand with the values of the symbols."""
        self.segment = values[f"{name}.segment"]
        self._displacement = values[f"{name}.displacement"]
        self._addressing = values[f"{name}.addressing"]
        return self

    @property
    def addressing(self) -> int:
        """The value of the symbol."""
        return self._addressing

    def displacement(self, _machine: Any) -> int:
        """The value of the symbol."""
        return self._displacement
