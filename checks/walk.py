"""Walks over the IR: what a function, view or owner depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache

from grammar import ir
from grammar.source import Span


@cache
def _child_fields(node_type: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(node_type) if f.name not in ("type", "span"))


def children(node: object) -> Iterator[object]:
    """The expressions, statements and clauses directly below a node, or the elements of a tuple."""
    if isinstance(node, tuple):
        yield from node
    elif is_dataclass(node) and not isinstance(node, (type, Span)):
        for name in _child_fields(type(node)):
            yield getattr(node, name)


def nodes(node: object) -> Iterator[object]:
    """The node and everything below it, callees not included."""
    yield node
    for child in children(node):
        yield from nodes(child)


def reachable_functions(
    program: ir.Program, roots: Iterable[object], without: frozenset[str]
) -> list[ir.Function]:
    """The functions that the roots call, directly or not, but for those with a source name in `without`."""
    found: dict[str, ir.Function] = {}
    pending: list[object] = list(roots)
    while pending:
        for node in nodes(pending.pop()):
            name = node.function if isinstance(node, ir.Call) else None
            if name is None or name in found or program.functions[name].source in without:
                continue
            found[name] = program.functions[name]
            pending.append(found[name].body)
    return list(found.values())


def state_read(program: ir.Program, expression: ir.Expr) -> frozenset[str]:
    """The names of the state variables and memories that an expression reads, through calls too."""
    bodies: list[object] = [expression]
    bodies += [function.body for function in reachable_functions(program, bodies, frozenset())]
    reads = (node for body in bodies for node in nodes(body))
    return frozenset(_name_read(node) for node in reads if isinstance(node, (ir.Read, ir.ReadMemory)))


def _name_read(node: ir.Read | ir.ReadMemory) -> str:
    return node.name if isinstance(node, ir.Read) else node.memory
