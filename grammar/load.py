"""Loads a specification, from the cache if its files did not change."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from grammar import ir
from grammar.cachedir import cache_directory, keep, kept
from grammar.diagnostics import SpecificationError
from grammar.garbage import reading
from grammar.source import default_directory
from grammar.stored import restored, stored


@reading()
def load(directory: Path | None = None) -> ir.Program:
    """The checked specification under `directory` (default: the project's).

    Raises `SpecificationError` with all errors found.
    """
    directory = directory or default_directory()
    key = content_key(directory)
    program = _from_cache(key) or _checked(directory, key)
    program.key = key
    return program


def _checked(directory: Path, key: str) -> ir.Program:
    """The program from its files; it is put into the cache."""
    # Imported only here: with a cached program neither the parser nor the checker is needed.
    from grammar.files import check_directory

    program, diagnostics, sources = check_directory(directory)
    if diagnostics:
        raise SpecificationError(diagnostics, sources)
    cache = cache_directory()
    if cache is not None:
        keep(cache / f"program-{key}.pickle", stored(program))
    return program


def content_key(directory: Path) -> str:
    """A hash of all that the program depends on: the files' names and texts, this package, the Python version."""
    digest = hashlib.sha256(repr((sys.version_info[:2], directory.name)).encode())
    package = Path(__file__).resolve().parent
    for path in sorted([*directory.rglob("*.isa"), *package.rglob("*.py"), *package.glob("*.lark")]):
        digest.update(str(path.name).encode())
        try:
            digest.update(path.read_bytes())
        except OSError:
            continue
    return digest.hexdigest()[:32]


def _from_cache(key: str) -> ir.Program | None:
    cache = cache_directory()
    if cache is None:
        return None
    data = kept(cache / f"program-{key}.pickle")
    return None if data is None else restored(data)
