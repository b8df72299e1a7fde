"""The decoder's table for a specification, as it is kept in the cache and put into memory.

What it is made of is in groups.py, which needs all handlers, and is not loaded for a table from the cache.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import refmodel
from fastmodel.sources import digest_of, sources
from grammar.cachedir import cache_directory, keep, kept
from grammar.ir import Program


@dataclass(frozen=True)
class Table:
    """The words, of 64 bits.

    A routine's code is to be put into the words of `routines`, and the table's address to be added to those of
    `places`. `handled` are the instructions that have a handler.
    """

    words: bytes
    routines: list[tuple[int, str]]
    places: list[int]
    handled: frozenset[str]

    def at(self, address: int, codes: Mapping[str, int]) -> bytes:
        """The table that is to lie at an address, with the codes of routines; 0 for one that does not exist."""
        words = array("Q", self.words)
        for number, name in self.routines:
            words[number] = codes.get(name, 0)
        for number in self.places:
            words[number] += address
        return words.tobytes()


_known: list[tuple[Program, Table]] = []


def table_of(program: Program) -> Table:
    """The table of a program; that of the program asked for last is remembered."""
    if not _known or _known[0][0] is not program:
        _known[:] = [(program, _from_cache(program))]
    return _known[0][1]


def _from_cache(program: Program) -> Table:
    """The table from the cache if the program has a key, else a new one."""
    directory = cache_directory() if program.key is not None else None
    if directory is None:
        return _made(program)
    path = directory / f"decoder-{_key(program)}.table"
    content = kept(path)
    if content is not None:
        return Table(*marshal.loads(content))
    table = _made(program)
    keep(path, marshal.dumps((table.words, table.routines, table.places, table.handled)))
    return table


def _made(program: Program) -> Table:
    from fastmodel.groups import handled, parts

    found = parts(program)
    return Table(found.words.tobytes(), found.routines, found.places, handled(program))


def _key(program: Program) -> str:
    """What the table depends on: the program, our files, and those that say what its encodings mean."""
    encodings = sorted(Path(refmodel.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(f"{program.key} {sys.implementation.cache_tag}".encode())
    digest.update(digest_of([*sources(), *encodings]))
    return digest.hexdigest()[:32]
