"""Guest images: segments of guest-physical memory, and where to start."""

from __future__ import annotations

from dataclasses import dataclass

FLAT_ADDRESS = 0x10000  # where flat images are loaded and entered


class ImageError(Exception):
    """An image that cannot be loaded; the message names the file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at a guest-physical address; `size` in bytes may be larger than the data, the rest is zero."""

    address: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """What to load and where to start."""

    name: str
    segments: tuple[Segment, ...]
    entry: int

    @property
    def end(self) -> int:
        """The first guest-physical address behind the image."""
        return max(s.address + s.size for s in self.segments)
