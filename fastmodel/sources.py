"""What files of ours something in the cache was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sources() -> list[Path]:
    """The files that the compiled code depends on."""
    return sorted(Path(__file__).parent.rglob("*.py"))


def digest_of(files: Iterable[Path]) -> bytes:
    """A digest of files."""
    return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
