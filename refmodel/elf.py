"""Guest images from ELF64 executables."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError, ELFParseError
from elftools.elf.elffile import ELFFile

from refmodel.image import Image, ImageError, Segment

# What pyelftools raises on files that are not what their headers say.
_MALFORMED = (
    ELFError,
    ELFParseError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    AssertionError,
    struct.error,
)


def elf_image(path: Path, data: bytes) -> Image:
    """The image that an ELF64 executable stands for.  Raises `ImageError`, whose message names the file."""
    try:
        elf = ELFFile(io.BytesIO(data))
        problem = _unsupported(elf)
        if problem is not None:
            raise ImageError(f"{path}: {problem}")
        segments = tuple(_segment(path, header, data) for header in _load_headers(elf))
        entry = int(elf["e_entry"])
    except _MALFORMED as error:
        raise ImageError(f"{path}: not a valid ELF file ({str(error) or type(error).__name__})") from None
    if not segments:
        raise ImageError(f"{path}: the ELF file has no segment to load")
    if not any(s.address <= entry < s.address + s.size for s in segments):
        raise ImageError(f"{path}: the entry point {entry:#x} lies in no segment")
    return Image(path.name, segments, entry)


def _unsupported(elf: ELFFile) -> str | None:
    """Why this ELF file is not for this machine, None if it is."""
    if elf.elfclass != 64 or not elf.little_endian:
        return "not a 64-bit little-endian ELF file"
    if elf["e_machine"] != "EM_X86_64":
        return f"for another machine ({elf['e_machine']})"
    if elf["e_type"] != "ET_EXEC":
        return f"not a statically linked executable ({elf['e_type']})"
    return None


def _load_headers(elf: ELFFile) -> list[Any]:
    headers = [segment.header for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    return [h for h in headers if h["p_memsz"]]


def _segment(path: Path, header: Any, data: bytes) -> Segment:
    offset, length, size = header["p_offset"], header["p_filesz"], header["p_memsz"]
    if offset + length > len(data):
        raise ImageError(
            f"{path}: truncated: a segment ends at byte {offset + length}, the file at {len(data)}"
        )
    if length > size:
        raise ImageError(f"{path}: a segment has more bytes in the file ({length}) than in memory ({size})")
    return Segment(header["p_vaddr"], data[offset : offset + length], size)
