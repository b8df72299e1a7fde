"""Loads a specification, from the cache if its files did not change."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from grammar import ir
from grammar.cachedir import cache_directory, keep, kept
from grammar.diagnostics import SpecificationError, located
from grammar.garbage import reading
from grammar.source import default_directory
from grammar.stored import restored, stored


@reading()
def load(directory: Path | None = None) -> ir.Program:
    """The checked specification under `directory` (default: the project's).

    Raises `SpecificationError` with all errors found.
    """
    key = content_key(directory or default_directory())
    program = _from_cache(key) or _checked(directory, key)
    program.key = key
    return program


def _checked(directory: Path | None, key: str) -> ir.Program:
    """The program from its files; it is put into the cache."""
    # Imported only here: with a cached program neither the parser nor the checker is needed.
    from grammar.files import check_directory

    program, diagnostics, sources = check_directory(directory or default_directory())
    if diagnostics:
        raise SpecificationError(*located(diagnostics, sources, directory))
    cache = cache_directory()
    if cache is not None:
        keep(cache / f"program-{key}.pickle", stored(program))
    return program


def content_key(directory: Path) -> str:
    """A hash of all that the program depends on: the files' paths and texts, this package, the Python version."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256(repr((sys.version_info[:2], directory.name)).encode())
    for root, patterns in ((directory, ("*.isa",)), (package, ("*.py", "*.lark"))):
        for path in sorted(found for pattern in patterns for found in root.rglob(pattern)):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            # The length keeps what ends one file from being taken for the beginning of the next.
            digest.update(repr((path.relative_to(root).as_posix(), len(text))).encode())
            digest.update(text)
    return digest.hexdigest()[:32]


def _from_cache(key: str) -> ir.Program | None:
    cache = cache_directory()
    if cache is None:
        return None
    data = kept(cache / f"program-{key}.pickle")
    return None if data is None else restored(data)
