"""A program as bytes: first without the bodies of functions and instructions, then these.

Many commands need few bodies or none. They are most of a program, and read when one of them is first looked at.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from itertools import chain

from grammar import ir
from grammar.garbage import no_garbage_collection
from grammar.record import Later

_LENGTH = 8  # bytes
_Holder = ir.Function | ir.InstructionBody | ir.Step | ir.Handler


def stored(program: ir.Program) -> bytes:
    """The bytes that `restored` makes the same program of."""
    holders = list(_holders(program))
    bodies = [holder.body for holder in holders]
    for holder in holders:
        del vars(holder)["body"]
    try:
        outline = pickle.dumps(program, protocol=5)
    finally:
        for holder, body in zip(holders, bodies, strict=True):
            vars(holder)["body"] = body
    return len(outline).to_bytes(_LENGTH, "little") + outline + pickle.dumps(bodies, protocol=5)


def restored(data: bytes) -> ir.Program:
    """The program that these are the bytes of."""
    content = memoryview(data)
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    program: ir.Program = pickle.loads(content[_LENGTH:end])
    holders = list(_holders(program))
    is_first = not gc.get_freeze_count()  # see grammar/garbage.py

    @no_garbage_collection()
    def read() -> None:
        for holder, body in zip(holders, pickle.loads(content[end:]), strict=True):
            vars(holder)["body"] = body
            vars(holder).pop(Later.SOURCE, None)
        if is_first:
            gc.freeze()

    for holder in holders:
        vars(holder)[Later.SOURCE] = read
    return program


def _holders(program: ir.Program) -> Iterator[_Holder]:
    """What has a body, in the order in which the bodies are stored."""
    instructions = program.instructions.values()
    yield from chain.from_iterable(instruction.bodies for instruction in instructions)
    yield from chain(program.functions.values(), program.steps.values(), program.handlers.values())
