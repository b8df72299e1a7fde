"""What the generated module is written in terms of: state with defaults, aborts, and the processor's frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from refmodel.decoder import Decoded, Decoder, Truncated
from refmodel.encoding import MAX_LENGTH
from refmodel.memory import PhysicalMemory

PAGE_SIZE = 0x1000  # bytes; instruction bytes are fetched page by page
_VERSIONS = count()


class IndexedState(dict[Any, int]):
    """An indexed state variable: every index not written yet has the value at reset."""

    __slots__ = ("reset",)

    def __init__(self, reset: int) -> None:
        super().__init__()
        self.reset = reset

    def __missing__(self, _index: object) -> int:
        return self.reset


class Remembered(dict[Any, Any]):
    """What a cached function returned; `version` is another number whenever some of it was forgotten."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        super().__init__()
        self.version = next(_VERSIONS)

    def clear(self) -> None:
        """Forgets all."""
        super().clear()
        self.version = next(_VERSIONS)

    def forget(self, first: tuple[Any, ...]) -> None:
        """Forgets the results whose keys begin with these."""
        for key in [
            key for key in self if (key[: len(first)] if isinstance(key, tuple) else (key,)) == first
        ]:
            del self[key]
        self.version = next(_VERSIONS)


class Abort(Exception):
    """An abort of the specification (a fault or VM exit) on its way; `value` is what it carries."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


def divide(dividend: int, divisor: int, ones: int) -> int:
    """Unsigned division; by zero it gives all ones, as in SMT-LIB."""
    return dividend // divisor if divisor else ones


def remainder(dividend: int, divisor: int, _ones: int) -> int:
    """Unsigned remainder; by zero it gives the dividend, as in SMT-LIB."""
    return dividend % divisor if divisor else dividend


def shift_left(value: int, amount: int, width: int) -> int:
    """A left shift whose amount may be huge."""
    return value << amount & (1 << width) - 1 if amount < width else 0


class Processor:
    """The part of the machine that is not generated: fetching, decoding, outputs and the current VMCS.

    The generated subclass `Machine` adds the registers and the VMM's variables as attributes.
    """

    __slots__ = (
        "PHYSICAL",
        "code_size",
        "current",
        "decoders",
        "fetch_translate",
        "instruction_length",
        "listeners",
        "vmcs",
        "vmcs_of",
    )

    def __init__(
        self,
        memory: PhysicalMemory,
        decoders: Mapping[int, Decoder],
        code_size: Callable[[Any], int],
        fetch_translate: Callable[[Any, int], int],
    ) -> None:
        self.PHYSICAL = memory
        self.decoders = decoders
        self.code_size = code_size
        self.fetch_translate = fetch_translate
        self.instruction_length = 0
        self.current: Decoded | None = None  # the instruction executed last, for traces and reports
        self.listeners: dict[str, Callable[..., None]] = {}
        self.reset()

    def reset(self) -> None:
        """Gives every register and variable its value at reset; memory stays as it is."""
        self.vmcs_of: dict[int, Any] = {0: self.new_vmcs()}
        self.vmcs = self.vmcs_of[0]

    def new_vmcs(self) -> Any:
        """A VMCS with every field at its reset value."""
        raise NotImplementedError

    @property
    def address_size(self) -> int:
        """The address size of the current instruction in bits: 16, 32 or 64."""
        return self.current.address_size if self.current is not None else 64

    @property
    def operand_size(self) -> int:
        """The operand size of the current instruction in bits: 16, 32 or 64."""
        return self.current.size if self.current is not None else 64

    @property
    def repeat(self) -> int:
        """The prefix F2 or F3 of the current instruction, 0 if there is none."""
        return self.current.prefixes.repeat if self.current is not None else 0

    def output(self, name: str, *arguments: int) -> None:
        """An effect on the outside world.  `vmptrld` makes another VMCS the current one; others go to listeners."""
        if name == "vmptrld":
            if arguments[0] not in self.vmcs_of:
                self.vmcs_of[arguments[0]] = self.new_vmcs()
            self.vmcs = self.vmcs_of[arguments[0]]
        listener = self.listeners.get(name)
        if listener is not None:
            listener(*arguments)

    def execute(self: Any) -> None:  # Any: the registers are the subclass's
        """Fetches, decodes and executes one instruction; RIP moves on if it completes."""
        rip = self.NEXT_RIP = self.RIP  # a VM exit during the fetch has an instruction length of 0
        decoder = self.decoders[self.code_size(self)]
        physical = self.fetch_translate(self, rip)
        data = self.PHYSICAL.read_bytes(physical, min(MAX_LENGTH, PAGE_SIZE - physical % PAGE_SIZE))
        decoded = decoder.known.get(data)
        if decoded is None:
            decoded = self._decode(decoder, rip, data)
        self.current = decoded
        self.instruction_length = length = decoded.length
        if decoder.code_size != 64 and length:  # the last byte, too, lies within the limit of the segment
            self.fetch_translate(self, rip + length - 1)
        self.NEXT_RIP = rip + length & decoder.offset_mask
        decoded.run(self, *decoded.operands)
        self.RIP = self.NEXT_RIP

    def _decode(self, decoder: Decoder, rip: int, data: bytes) -> Decoded:
        """Decodes bytes seen for the first time, with those of the next page if the instruction reaches into it."""
        try:
            return decoder.decode(data)
        except Truncated:
            following = self.fetch_translate(self, rip + len(data) & decoder.offset_mask)
            return decoder.decode(data + self.PHYSICAL.read_bytes(following, MAX_LENGTH - len(data)))
