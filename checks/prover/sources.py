"""Which Python files a family's theorems are made by, so that no other edit has its groups built anew.

Of `checks` they are what the family's modules import, directly or not; of the layers below, all files of each that
is imported from, and of those below it. What imports modules by other means than the statement (commands, replays)
has no part in building terms.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import z3

_ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("grammar", "refmodel", "fastmodel")
"""The packages that count as a whole, each with those before it."""
ALWAYS = ("grammar", "checks.extract", "checks.digest", "checks.solve")
"""Modules that have a part in every verdict, with what they import."""
PROVER = tuple(_ROOT / "checks" / "prover" / name for name in ("memo.py", "worker.py"))
"""Files that do too, without what they import: every family."""


def digest_of(files: Iterable[Path]) -> bytes:
    """The digest of files of the project, and of what they run on."""
    digest = hashlib.sha256(repr((sys.version_info[:3], z3.get_full_version())).encode())
    for path in files:
        digest.update(f"{path.relative_to(_ROOT)}\n".encode())
        digest.update(_content(path))
    return digest.digest()


def files_of(modules: Iterable[str]) -> list[Path]:
    """The files that theorems are made by which some modules build."""
    found: set[Path] = set(PROVER)
    pending = [path for name in (*ALWAYS, *modules) for path in _files(name)]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path)
    highest = max(LAYERS.index(name) for path in found if (name := _package(path)) in LAYERS)
    return sorted(found.union(*map(files_in, LAYERS[: highest + 1])))


def _package(path: Path) -> str:
    return path.relative_to(_ROOT).parts[0]


def files_in(package: str) -> list[Path]:
    """All Python files of a package."""
    return sorted((_ROOT / package).rglob("*.py"))


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """The project's files that a file imports, wherever in it; none if it is of a layer that counts as a whole."""
    if _package(path) in LAYERS:
        return ()
    return tuple(one for name in _names(_content(path).decode()) for one in _files(name))


_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+)?import[ \t]+(?P<names>\([^)]*\)|[^\n]*)", re.MULTILINE
)


def _names(text: str) -> Iterator[str]:
    """Every name that may be that of a module: of what follows `import`, and of what stands before it.

    The statements are searched for in the text, which is ten times faster than parsing it. A line of a comment that
    begins like one does no harm: it can only add files.
    """
    for statement in _IMPORT.finditer(text):
        module, names = statement["module"], re.findall(r"[\w.]+", statement["names"])
        yield from (f"{module}.{name}" if module else name for name in names)
        if module:
            yield module


@cache
def _files(name: str) -> tuple[Path, ...]:
    """The files that importing a module runs, if it is one of the project's: it, and the packages that it is in."""
    package, _, _ = name.rpartition(".")
    place = _ROOT.joinpath(*name.split("."))
    own = tuple(path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file())
    return (*_files(package), *own) if package else own
