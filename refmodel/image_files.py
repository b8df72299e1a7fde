"""Reads guest images from files: ELF64 executables and flat binaries."""

from __future__ import annotations

from pathlib import Path

from refmodel.image import FLAT_ADDRESS, Image, ImageError, Segment

_ELF_MAGIC = b"\x7fELF"


def load_image(path: Path) -> Image:
    """Reads an image: ELF64 by its magic number, anything else as a flat binary.  Raises `ImageError`."""
    data = path.read_bytes()
    if not data:
        raise ImageError(f"{path}: the file is empty")
    if data.startswith(_ELF_MAGIC):
        from refmodel.elf import elf_image  # most guests are flat, and pyelftools takes time to load

        return elf_image(path, data)
    return Image(path.name, (Segment(FLAT_ADDRESS, data, len(data)),), FLAT_ADDRESS)
