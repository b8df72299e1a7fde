"""Runs short cases on the compiled reference, from the state of a machine of the Python model."""

from __future__ import annotations

import ctypes
import signal
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastmodel.cases import ROW_WORDS
from fastmodel.reference import records
from fastmodel.reference.caches import table_bytes
from fastmodel.reference.layout import LIST_LENGTH, OFFSET, Place
from fastmodel.reference.module import DECODED_BITS, Module
from refmodel.decoder import Decoded, NotModelled, Truncated
from refmodel.model import Model

JOURNAL_LENGTH = 4096  # entries
KEY_BYTES = 16  # of an instruction, of which the last is their number
MOST_RECORDS = 1 << 15  # then all are forgotten: a long run decodes ever new bytes
MASK_64 = (1 << 64) - 1


class TooMuchState(Exception):
    """The machine has more of something than the state block has room for."""


class CompiledReference:
    """The reference, compiled: cases begin in the state of `machine`, which stays as it is, but for its memory.

    Raises ImportError without llvmlite, and `TooMuchState`.
    """

    def __init__(self, model: Model, machine: Any) -> None:
        from fastmodel.compiler import build  # needs llvmlite, which may be missing

        self._model = model
        self._machine = machine
        module = Module(model.program)
        self._layout = module.layout
        self._numbers = {f"execute_{body.name}": n for n, body in enumerate(module.bodies)}
        self._records: dict[bytes, ctypes.Array[ctypes.c_uint64]] = {}
        self._no_instruction = _words([0, 0, records.UNKNOWN & MASK_64])
        self._failure: Exception | None = None
        self._kept: list[Any] = []
        self._state = ctypes.create_string_buffer(self._layout.size)
        self._pristine = bytearray(self._layout.size)
        text = module.text()
        target = build.Target.host(threaded=False, effort=build.QUICK)
        self._code = build.load(target, "reference", text.encode(), lambda: text)
        self._run = self._code.function("run_cases", 4)
        self._prepare_header()
        self.take_state()

    def take_state(self) -> None:
        """Cases begin in the present state of the machine from now on."""
        for place in self._layout.places.values():
            self._copy(place)

    def run_cases(self, rows: array[int]) -> None:
        """Runs the cases in place (fastmodel/cases.py).

        A row's reason is 0 if all its instructions completed, else the number of the abort that ended it, from 1 on
        in the specification's order, or LEFT_TO_PYTHON.
        """
        address, length = rows.buffer_info()
        if rows.itemsize != 8 or length % ROW_WORDS:
            raise ValueError(f"rows are {ROW_WORDS} words of 64 bits each")
        if len(self._records) > MOST_RECORDS:
            self._forget_decoded()
        pristine = ctypes.addressof(ctypes.c_char.from_buffer(self._pristine))
        with _uninterrupted():
            self._run(ctypes.addressof(self._state), pristine, address, length // ROW_WORDS)
        if self._failure is not None:
            raise self._failure

    # --- the state block --------------------------------------------------------------------------

    def _prepare_header(self) -> None:
        memory = self._machine.PHYSICAL
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
        self._kept.append(prototype(self._decode))
        decode = ctypes.cast(self._kept[-1], ctypes.c_void_p).value
        self._put(OFFSET["MEMORY"], memory.address)
        self._put(OFFSET["MEMORY_SIZE"], memory.size)
        self._put(OFFSET["JOURNAL"], self._allocate(16 * JOURNAL_LENGTH))
        self._put(OFFSET["JOURNAL_LIMIT"], JOURNAL_LENGTH)
        self._decoded = self._allocate(8 << DECODED_BITS)
        self._put(OFFSET["DECODED"], self._decoded)
        self._put(OFFSET["DECODE"], decode or 0)
        for name, offset in self._layout.caches.items():
            keys = len(self._model.program.functions[name].keys)
            self._put(offset, self._allocate(table_bytes(keys)))

    def _allocate(self, size: int) -> int:
        self._kept.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self._kept[-1])

    def _put(self, offset: int, value: int, size: int = 8) -> None:
        self._pristine[offset : offset + size] = value.to_bytes(size, "little")

    def _copy(self, place: Place) -> None:
        """The value or values of a variable."""
        variable = place.variable
        owner = self._machine.vmcs if variable.space == "vmcs" else self._machine
        value = getattr(owner, variable.name)
        size = place.stride - 8 * place.keys
        if not variable.indices:
            self._put(place.offset, int(value), size)
        elif place.keys:
            self._copy_list(place, value, size)
        else:
            for number in range(place.length):
                self._put(place.offset + number * place.stride, int(value[number]), size)

    def _copy_list(self, place: Place, values: dict[Any, int], size: int) -> None:
        if len(values) > LIST_LENGTH:
            raise TooMuchState(f"more than {LIST_LENGTH} elements of {place.variable.name} are set")
        self._put(place.offset, len(values))
        for number, (index, value) in enumerate(values.items()):
            entry = place.offset + 8 + number * place.stride
            for position, key in enumerate(index if isinstance(index, tuple) else (index,)):
                self._put(entry + 8 * position, key)
            self._put(entry + 8 * place.keys, value, size)

    def _forget_decoded(self) -> None:
        ctypes.memset(self._decoded, 0, 8 << DECODED_BITS)
        self._records.clear()
        self._model.decoder.known.clear()

    # --- decoding ---------------------------------------------------------------------------------

    def _decode(self, key: int) -> int:
        """Called from native code with the bytes of an instruction: the address of its record.

        Nothing can be raised through native code: it gets a record of no instruction, and the error is raised later.
        """
        data = ctypes.string_at(key, KEY_BYTES)
        try:
            record = self._records.get(data)
            if record is None:
                record = self._records[data] = self._record(data)
        except Exception as error:  # noqa: BLE001
            self._failure, record = error, self._no_instruction
        return ctypes.addressof(record)

    def _record(self, data: bytes) -> ctypes.Array[ctypes.c_uint64]:
        words = [int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")]
        try:
            decoded = self._model.decoder.decode(data[: data[-1]])
        except Truncated:
            words += [records.TRUNCATED & MASK_64]
        except NotModelled:
            words += [records.UNKNOWN & MASK_64]
        else:
            words += self._decoded_words(decoded)
        return _words(words)

    def _decoded_words(self, decoded: Decoded) -> list[int]:
        sizes = (decoded.address_size, decoded.size)
        words = [self._body_of(decoded), decoded.length, *sizes, decoded.prefixes.repeat]
        for operand in decoded.operands:
            words += records.operand_words(operand, self._layout)
        return words

    def _body_of(self, decoded: Decoded) -> int:
        """The number of the function that executes it: #UD and #GP come last."""
        if decoded.instruction is None:
            return len(self._numbers) + (decoded.length == 0)
        name: str = decoded.run.__name__
        return self._numbers[name]


def _words(words: list[int]) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * len(words))(*words)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: it must not arrive in a call from native code."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
