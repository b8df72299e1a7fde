"""Digests of programs: equal for programs of the same meaning, wherever their lines stand.

Documentation and lines do not count, so that a comment changes no digest; the files' names do, since they group items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

from grammar import ir
from grammar.source import Span

_TABLES = tuple(f.name for f in fields(ir.Program) if f.init)
_TYPES = (ir.Bool, ir.Bits, ir.Newtype, ir.Enum, ir.Bitfield, ir.Struct)


class Digests:
    """Digests of programs that share most of their items: each item is read once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bytes]] = {}

    def of(self, program: ir.Program) -> bytes:
        """The digest of a program; the order of its items counts."""
        digest = hashlib.sha256()
        for table in _TABLES:
            digest.update(self._table(getattr(program, table)))
        return digest.digest()

    def _table(self, table: object) -> bytes:
        """The digest of a table, of which most are the same in all programs."""
        if not isinstance(table, dict):
            return self._item(table)
        known = self._known.get(id(table))
        if known is None:
            parts = [self._item(one) for pair in table.items() for one in pair]
            known = self._known[id(table)] = (table, hashlib.sha256(b"".join(parts)).digest())
        return known[1]

    def _item(self, item: object) -> bytes:
        known = self._known.get(id(item))
        if known is None:
            text = "\x1f".join(_described(item))
            known = self._known[id(item)] = (item, hashlib.sha256(text.encode()).digest())
        return known[1]


def _described(node: object) -> list[str]:
    parts: list[str] = []
    _describe(node, parts.append)
    return parts


def _describe(node: Any, put: Callable[[str], None]) -> None:
    """Puts what a node is: its kind and its parts, in order; of a place only the file."""
    if isinstance(node, str):
        put(f"'{node}")
    elif isinstance(node, tuple):
        put(f"({len(node)}")
        for one in node:
            _describe(one, put)
    elif isinstance(node, int) or node is None:
        put(repr(node))
    elif isinstance(node, Span):
        put(node.file)
    elif isinstance(node, _TYPES):
        put(_type_text(node))
    else:
        _describe_fields(node, put)


def _describe_fields(node: Any, put: Callable[[str], None]) -> None:
    put(node.__class__.__name__)
    for name in _field_names(node.__class__):
        _describe(getattr(node, name), put)


@cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.name != "doc")


_type_texts: dict[int, tuple[ir.Type, str]] = {}


def _type_text(type_: ir.Type) -> str:
    """Most nodes carry a type, and there are few: each is read once."""
    known = _type_texts.get(id(type_))
    if known is None:
        parts: list[str] = []
        _describe_fields(type_, parts.append)
        known = _type_texts[id(type_)] = (type_, "\x1f".join(parts))
    return known[1]
