"""Operands at run time: how the generated code reads and writes what an operand stands for.

Each object knows one decoded operand and works on any machine: `read(m)`, `write(m, value)`, and `modify(m)`, a read
that announces a write.  The accesses themselves are functions of the specification (`read_register_32`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refmodel.addressing import ModRM
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register

_MASK_64 = (1 << 64) - 1
_REGISTER_KINDS = {"control_register": CONTROL, "debug_register": DEBUG, "segment_register": SEGMENT}


class Accessors:
    """The functions of the specification that read and write operands, by name."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions

    def __call__(self, name: str, width: int | None = None) -> Callable[..., Any]:
        """The accessor's instance for a width; one that no instruction uses fails when it is called."""
        key = name if width is None else f"{name}_{width}"
        return self._functions.get(key) or _missing(key)


def _missing(name: str) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise AttributeError(f"the specification has no function {name}")

    return fail


class OperandAccess:
    """An operand; this base class has the attributes that a kind of operand lacks."""

    __slots__ = ("written",)

    is_memory = False
    index = 0
    segment = 0

    def __init__(self, written: Operand) -> None:
        self.written = written

    @property
    def addressing(self) -> int:
        """Base, index and scale of a memory operand."""
        return 0

    def address(self, _machine: Any) -> int:
        """The effective address of a memory operand."""
        return 0

    def displacement(self, _machine: Any) -> int:
        """The displacement of a memory operand; relative to RIP, its address."""
        return 0

    def read(self, _machine: Any) -> int:
        """The operand's value."""
        raise TypeError(f"{self.written} has no value")

    def modify(self, machine: Any) -> int:
        """The operand's value, which will be written."""
        return self.read(machine)

    def write(self, _machine: Any, _value: int) -> None:
        """Writes the operand."""
        raise TypeError(f"{self.written} cannot be written")


class RegisterAccess(OperandAccess):
    """A general register, or the second byte of one (`high`)."""

    __slots__ = ("_read", "_write", "index")

    def __init__(self, accessors: Accessors, number: int, width: int, high: bool) -> None:
        super().__init__(Register(HIGH_BYTE if high else GENERAL, number, width))
        self.index = number
        self._read = accessors("read_high_byte") if high else accessors("read_register", width)
        self._write = accessors("write_high_byte") if high else accessors("write_register", width)

    def read(self, machine: Any) -> int:  # noqa: D102
        value: int = self._read(machine, self.index)
        return value

    modify = read

    def write(self, machine: Any, value: int) -> None:  # noqa: D102
        self._write(machine, self.index, value)


class SpecialAccess(OperandAccess):
    """A control, debug or segment register: instructions use its number."""

    __slots__ = ("index",)

    def __init__(self, kind: str, number: int) -> None:
        super().__init__(Register(_REGISTER_KINDS[kind], number, 16 if kind == "segment_register" else 64))
        self.index = number


class ImmediateAccess(OperandAccess):
    """A constant of `width` bits."""

    __slots__ = ("value",)

    def __init__(self, value: int, width: int) -> None:
        super().__init__(Immediate(value, width))
        self.value = value

    def read(self, _machine: Any) -> int:  # noqa: D102
        return self.value


class RelativeAccess(OperandAccess):
    """A branch target of `width` bits, relative to the next instruction."""

    __slots__ = ("distance", "mask")

    def __init__(self, distance: int, width: int) -> None:
        super().__init__(Immediate(distance))
        self.distance = distance
        self.mask = (1 << width) - 1

    def read(self, machine: Any) -> int:  # noqa: D102
        target: int = machine.NEXT_RIP + self.distance & self.mask
        return target


class MemoryAccess(OperandAccess):
    """A memory operand; `address` is the offset in its segment."""

    __slots__ = ("_modify", "_read", "_write", "address", "mask", "place", "segment")

    is_memory = True

    def __init__(
        self, accessors: Accessors, place: ModRM, width: int | None, segment: int, address_bits: int
    ) -> None:
        super().__init__(
            Memory(
                base=place.base,
                index=place.index,
                scale=place.scale,
                displacement=place.displacement,
                width=width,
                segment=segment if segment != place.default_segment else None,
                relative=place.rip_relative,
                address_width=address_bits,
            )
        )
        self.place = place
        self.segment = segment
        self.mask = (1 << address_bits) - 1
        self.address = _address(place, self.mask)  # type: ignore[method-assign, assignment]
        self._read = accessors("read_memory_operand", width)
        self._modify = accessors("modify_memory_operand", width)
        self._write = accessors("write_memory_operand", width)

    @property
    def addressing(self) -> int:  # noqa: D102
        return self.place.addressing

    def displacement(self, machine: Any) -> int:  # noqa: D102
        return self.address(machine) if self.place.rip_relative else self.place.displacement & _MASK_64

    def read(self, machine: Any) -> int:  # noqa: D102
        value: int = self._read(machine, self.segment, self.address(machine))
        return value

    def modify(self, machine: Any) -> int:  # noqa: D102
        value: int = self._modify(machine, self.segment, self.address(machine))
        return value

    def write(self, machine: Any, value: int) -> None:  # noqa: D102
        self._write(machine, self.segment, self.address(machine), value)


def _address(place: ModRM, mask: int) -> Callable[[Any], int]:
    """A function from the machine to the effective address, with only the parts that the operand has."""
    base, index, scale, displacement = place.base, place.index, place.scale, place.displacement
    if place.rip_relative:
        return lambda machine: machine.NEXT_RIP + displacement & mask
    if base is None and index is None:
        constant = displacement & mask
        return lambda _machine: constant
    if index is None:
        return lambda machine: machine.GPR[base] + displacement & mask
    if base is None:
        return lambda machine: machine.GPR[index] * scale + displacement & mask
    return lambda machine: machine.GPR[base] + machine.GPR[index] * scale + displacement & mask
