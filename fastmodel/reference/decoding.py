"""Decodes the bytes of instructions for native code, once each, with the Python model's decoder."""

from __future__ import annotations

import ctypes

from fastmodel.reference import records
from fastmodel.reference.layout import DECODED_BITS, Layout, instruction_bodies
from refmodel.decoder import Decoded, NotModelled, Truncated
from refmodel.model import Model

KEY_BYTES = 16  # of an instruction, of which the last is their number
MOST_RECORDS = 1 << 15  # then all are forgotten: a long run decodes ever new bytes
MASK_64 = (1 << 64) - 1


class DecodedInstructions:
    """Records of decoded instructions: the `table` that native code finds them in, and the `function` that adds one.

    `failure` is what was raised while it was called: nothing can be raised through native code.
    """

    def __init__(self, model: Model, layout: Layout) -> None:
        self._model = model
        self._layout = layout
        bodies = instruction_bodies(model.program)
        self._numbers = {f"execute_{body.name}": n for n, body in enumerate(bodies)}
        self._records: dict[bytes, ctypes.Array[ctypes.c_uint64]] = {}
        self._no_instruction = _words([0, 0, records.UNKNOWN & MASK_64])
        self._table = ctypes.create_string_buffer(8 << DECODED_BITS)
        self._callback = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(self._decode)
        self.table = ctypes.addressof(self._table)
        self.function = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        self.failure: Exception | None = None

    def make_room(self) -> None:
        """Forgets all records if there are many."""
        if len(self._records) > MOST_RECORDS:
            ctypes.memset(self._table, 0, len(self._table))
            self._records.clear()
            self._model.decoder.known.clear()

    def raise_failure(self) -> None:
        """Raises what could not be raised in native code."""
        if self.failure is not None:
            raise self.failure

    def _decode(self, key: int) -> int:
        """Called from native code with the bytes of an instruction: the address of its record.

        If that fails it is a record of no instruction.
        """
        data = ctypes.string_at(key, KEY_BYTES)
        try:
            record = self._records.get(data)
            if record is None:
                record = self._records[data] = self._record(data)
        except Exception as error:  # noqa: BLE001
            self.failure, record = error, self._no_instruction
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
