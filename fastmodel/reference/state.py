"""Reads and writes of state: registers, VMCS fields and the VMM's variables in the state block."""

from __future__ import annotations

from fastmodel.reference.contents import Contents
from fastmodel.reference.layout import OFFSET, Leaf, Place
from fastmodel.reference.types import llvm_type, stored_bits
from fastmodel.reference.writer import FunctionWriter
from grammar import ir
from refmodel.generate.bounds import width_of

STATE = "%state"


class StateWriter(FunctionWriter):
    """Writes accesses to the state block."""

    def __init__(self, module: Contents) -> None:
        super().__init__()
        self.module = module

    def load_header(self, name: str) -> str:
        """A word of the header."""
        return self.value(f"load i64, ptr {self.address(STATE, OFFSET[name])}")

    def store_header(self, name: str, value: str) -> None:
        """Writes a word of the header."""
        self.emit(f"store i64 {value}, ptr {self.address(STATE, OFFSET[name])}")

    def load_value(self, pointer: str, type_: ir.Type | None) -> str:
        """A vector or bool in memory, where it takes whole bytes."""
        width, stored = width_of(type_), stored_bits(type_)
        loaded = self.value(f"load i{stored}, ptr {pointer}, align 8")
        return loaded if width == stored else self.value(f"trunc i{stored} {loaded} to i{width}")

    def store_value(self, pointer: str, type_: ir.Type | None, value: str) -> None:
        """Writes a vector or bool to memory."""
        width, stored = width_of(type_), stored_bits(type_)
        if width != stored:
            value = self.value(f"zext i{width} {value} to i{stored}")
        self.emit(f"store i{stored} {value}, ptr {pointer}, align 8")

    def read_variable(self, name: str, indices: list[str]) -> str:
        """The value of a variable; `indices` are values with their types."""
        place = self.module.layout.places[name]
        if not place.keys:
            return self.load_value(self._element(place, indices), place.variable.type)
        type_ = llvm_type(place.variable.type)
        arguments = ", ".join([f"ptr {STATE}", *self._keys(indices)])
        return self.value(f"call {type_} @read_{name}({arguments})")

    def write_variable(self, name: str, indices: list[str], value: str) -> None:
        """Writes a variable."""
        place = self.module.layout.places[name]
        if not place.keys:
            self.store_value(self._element(place, indices), place.variable.type, value)
            return
        type_ = llvm_type(place.variable.type)
        arguments = ", ".join([f"ptr {STATE}", *self._keys(indices), f"{type_} {value}"])
        self.emit(f"call void @write_{name}({arguments})")

    def _element(self, place: Place, indices: list[str]) -> str:
        """A pointer to an element of an array; the last of several indices counts fastest."""
        pointer = self.address(STATE, place.offset)
        if not indices:
            return pointer
        number = "0"
        for index, typed in zip(place.variable.indices, indices, strict=True):
            shifted = self.value(f"shl i64 {number}, {width_of(index.type)}")
            number = self.value(f"or i64 {shifted}, {self.widened(typed)}")
        return self.address(pointer, self.value(f"mul i64 {number}, {place.stride}"))

    def _keys(self, indices: list[str]) -> list[str]:
        return [f"i64 {self.widened(typed)}" for typed in indices]

    def widened(self, typed: str) -> str:
        """A vector of up to 64 bits, given with its type, as a word."""
        type_, value = typed.split(" ", 1)
        return value if type_ == "i64" else self.value(f"zext {typed} to i64")

    # --- what aborts carry ------------------------------------------------------------------------

    def store_leaves(self, leaves: tuple[Leaf, ...], type_: str, value: str) -> None:
        """Keeps what an abort carries."""
        for leaf in leaves:
            path = ", ".join(map(str, leaf.path))
            part = self.value(f"extractvalue {type_} {value}, {path}")
            self.store_value(self.address(STATE, leaf.offset), leaf.type, part)

    def load_leaves(self, leaves: tuple[Leaf, ...], type_: str) -> str:
        """What an abort carries."""
        whole = "undef"
        for leaf in leaves:
            part = self.load_value(self.address(STATE, leaf.offset), leaf.type)
            path = ", ".join(map(str, leaf.path))
            whole = self.value(f"insertvalue {type_} {whole}, {llvm_type(leaf.type)} {part}, {path}")
        return whole
