"""Recorded cases of VMX behaviour: reading and checking the JSON lines files that `nonroot replay` runs.

The first line describes the machine that all cases start from; each other line is one case, an instruction with
what differs from that machine.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CODE_ADDRESS = 0x20000
VMCALL = b"\x0f\x01\xc1"  # follows the code of every case
GPR_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_CONTROLS = ("pin", "proc", "proc2", "exit", "entry", "excbm")
_WRONG_SHAPE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class CaseError(Exception):
    """A file that is not a case file; the message begins with `file:line:`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, complete.

    `fields` are the VMCS fields by encoding, `given` those that the case itself sets; `registers` the general
    registers by number; `system` other registers by their short names; `memory` host-physical addresses and bytes.
    """

    number: int
    fields: dict[int, int]
    given: frozenset[int]
    registers: dict[int, int]
    system: dict[str, int]
    memory: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Base:
    """The machine that cases start from.  `encodings` maps the short names of VMCS fields to their encodings."""

    encodings: dict[str, int]
    fields: dict[str, int]
    fields_at_cpl3: dict[str, int]
    registers: dict[str, int]
    system: dict[str, int]
    memory: tuple[tuple[int, bytes], ...]


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file, packed with gzip or not, with their line numbers."""
    line = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as stream
        ):
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    yield line, json.loads(text)
    except json.JSONDecodeError as error:
        raise CaseError(f"{path}:{line}:{error.colno}: not JSON: {error.msg}") from None
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CaseError(f"{path}:{line + 1}: not a text or gzip file ({error})") from None
    except RecursionError:
        raise CaseError(f"{path}:{line}: nested too deeply") from None


def read_cases(path: Path) -> Iterator[tuple[Base, Case]]:
    """The cases of a file with the machine they start from.  Raises `CaseError`."""
    base: Base | None = None
    for line, value in read_lines(path):
        try:
            if base is None or value.get("meta"):
                base = _base(value)
            else:
                yield base, _case(base, value)
        except _WRONG_SHAPE as error:
            what = "the machine of the first line" if base is None else "a case"
            why = f"there is no {error}" if isinstance(error, KeyError) else error
            raise CaseError(f"{path}:{line}: not {what}: {why}") from None
    if base is None:
        raise CaseError(f"{path}:1: the file is empty")


def _base(value: dict[str, Any]) -> Base:
    try:
        image = zlib.decompress(base64.b64decode(value["mem_zlib_b64"]))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"mem_zlib_b64: {error}") from None
    return Base(
        encodings=_numbers(value["vmcs_encodings"]),
        fields=_numbers(value["base_vmcs"]),
        fields_at_cpl3=_numbers(value["cpl3"]),
        registers=_numbers(value["base_gpr"]),
        system=_numbers(value["base_msr"]),
        memory=tuple(_records(image)),
    )


def _records(image: bytes) -> Iterator[tuple[int, bytes]]:
    """The memory image: records of an address (64 bits), a length (32 bits) and bytes."""
    position = 0
    while position < len(image):
        try:
            address, length = struct.unpack_from("<QI", image, position)
        except struct.error:
            raise ValueError("mem_zlib_b64: truncated") from None
        yield address, image[position + 12 : position + 12 + length]
        position += 12 + length


def _case(base: Base, value: dict[str, Any]) -> Case:
    controls = dict(zip(_CONTROLS, _number_list(value["ctl"], len(_CONTROLS)), strict=True))
    given = {**controls, **_numbers(value.get("v", {}))}
    address = _number(value.get("ca", CODE_ADDRESS))
    lower = base.fields_at_cpl3 if _number(value["cpl"]) == 3 else {}
    by_name = {**base.fields, **lower, "g_rip": address, **given}
    registers = {**base.registers, **_numbers(value.get("gpr", {}))}
    return Case(
        number=_number(value["id"]),
        fields={base.encodings[name]: number for name, number in by_name.items()},
        given=frozenset(base.encodings[name] for name in given),
        registers={GPR_NAMES.index(name): number for name, number in registers.items()},
        system={**base.system, **_numbers(value.get("msr", {}))},
        memory=((address, bytes.fromhex(value["code"]) + VMCALL), *(_write(w) for w in value.get("m", []))),
    )


def _write(write: list[Any]) -> tuple[int, bytes]:
    """`[address, hex]` or `[address, byte, length]`."""
    address = _number(write[0])
    if len(write) == 2:
        return address, bytes.fromhex(write[1])
    return address, bytes([_number(write[1])]) * _number(write[2])


def _number(value: Any) -> int:
    if not isinstance(value, int) or value < 0 or value >> 64:
        raise ValueError(f"{value!r} is not a number of at most 64 bits")
    return value


def _numbers(value: dict[str, Any]) -> dict[str, int]:
    return {str(name): _number(number) for name, number in value.items()}


def _number_list(value: list[Any], length: int) -> list[int]:
    if len(value) != length:
        raise ValueError(f"{length} numbers expected, found {len(value)}")
    return [_number(number) for number in value]
