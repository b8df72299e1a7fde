"""Where generated files are kept between runs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

# Files of one kind (`program-….pickle`) that are kept; each change of the specification makes one more.
KEPT = 16

_DIGEST = hashlib.sha256().digest_size  # bytes


def cache_directory() -> Path | None:
    """`$NONROOT_CACHE`, else `$XDG_CACHE_HOME/nonroot`, else `~/.cache/nonroot`; None if it cannot be written."""
    configured, base = os.environ.get("NONROOT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        directory = (
            Path(configured) if configured else (Path(base) if base else Path.home() / ".cache") / "nonroot"
        )
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home folder
        return None
    return directory if os.access(directory, os.W_OK) else None


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part; failures are ignored.

    The cache is only a convenience: a full or read-only disk must not stop a command.
    """
    import tempfile  # most commands write nothing

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(path)
            _prune(path)
        except OSError:
            Path(temporary).unlink()
    except OSError:
        return


def keep(path: Path, content: bytes) -> None:
    """Writes a file of the cache for `kept`: a digest stands in front of its content."""
    write_atomically(path, hashlib.sha256(content).digest() + content)


def kept(path: Path) -> bytes | None:
    """The content of a file that `keep` wrote; None if it is not there, or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[_DIGEST:]
    return content if hashlib.sha256(content).digest() == data[:_DIGEST] else None


def _prune(path: Path) -> None:
    """Removes the oldest files of the kind of `path`, whose name is a kind, a dash and a hash."""
    kind = path.name.partition("-")[0]
    siblings = [p for p in path.parent.glob(f"{kind}-*{path.suffix}") if p.is_file()]
    for old in sorted(siblings, key=lambda p: p.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
