"""Reads guest images from files: ELF64 executables, flat binaries, and assembly, which is assembled on the way."""

from __future__ import annotations

from pathlib import Path

from grammar.ir import Program
from refmodel.image import FLAT_ADDRESS, Image, ImageError, Segment

_ELF_MAGIC = b"\x7fELF"
_ASSEMBLY = ".asm"


def load_image(path: Path, program: Program) -> Image:
    """Reads an image: assembly by its suffix `.asm`, ELF64 by its magic number, anything else as a flat binary.

    Raises ImageError, OSError.
    """
    if path.suffix == _ASSEMBLY:
        return _assembled(path, program)
    data = path.read_bytes()
    if data.startswith(_ELF_MAGIC):
        from refmodel.elf import elf_image  # most guests are flat, and pyelftools takes time to load

        return elf_image(path, data)
    return _flat(path, data, FLAT_ADDRESS)


def _assembled(path: Path, program: Program) -> Image:
    from refmodel.assembler import AssemblyErrors, assemble_file  # its parser takes time to load
    from refmodel.encoder import Encoder

    try:
        assembled = assemble_file(path, Encoder(program))
    except AssemblyErrors as errors:
        raise ImageError(f"{path} cannot be assembled:\n{errors}") from None
    return _flat(path, assembled.code, assembled.origin)


def _flat(path: Path, data: bytes, address: int) -> Image:
    if not data:
        raise ImageError(f"{path}: there is nothing in it to run")
    return Image(path.name, (Segment(address, data, len(data)),), address)
