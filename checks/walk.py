"""Walks over the IR: what a function, view or owner depends on.

The IR never changes, so what stands directly in a body is found once for each and remembered by its identity, for all
programs that have the body.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from grammar import ir
from grammar.source import Span


@cache
def _child_fields(kind: type[Any]) -> tuple[str, ...]:
    """The fields in which nodes of a kind have others; none for a name or number."""
    if not is_dataclass(kind) or kind is Span:
        return ()
    return tuple(f.name for f in fields(kind) if f.name not in ("type", "span"))


def children(node: Any) -> Sequence[object]:
    """The expressions, statements and clauses directly below a node, or the elements of a tuple."""
    if isinstance(node, tuple):
        return node
    return [getattr(node, name) for name in _child_fields(node.__class__)]


def nodes(node: object) -> Iterator[object]:
    """The node and everything below it, callees not included."""
    pending: list[Any] = [node]
    while pending:
        one = pending.pop()
        yield one
        if isinstance(one, tuple):
            pending += one[::-1]
        elif names := _child_fields(one.__class__):
            pending += [getattr(one, name) for name in reversed(names)]


@dataclass(frozen=True, slots=True)
class Names:
    """What stands in a body, by name: calls, rule groups asked for, kinds of aborts raised, state and memories read,
    state written.

    `updates` are the statements that write state, `stores` those that write memories.
    """

    functions: tuple[str, ...]
    rules: tuple[str, ...]
    raises: frozenset[str]
    reads: frozenset[str]
    writes: frozenset[str]
    updates: tuple[ir.WriteState, ...]
    stores: tuple[ir.WriteMemory, ...]


_known: dict[int, tuple[object, Names]] = {}


def names_in(body: object) -> Names:
    """What stands in a body, callees not included."""
    found = _known.get(id(body))
    if found is None:
        found = _known[id(body)] = (
            body,
            _find_names(body),
        )  # the body too, so that its identity stays its own
    return found[1]


def _find_names(body: object) -> Names:
    functions: dict[str, None] = {}
    rules: dict[str, None] = {}
    raises, reads = set[str](), set[str]()
    updates, stores = list[ir.WriteState](), list[ir.WriteMemory]()
    for node in nodes(body):
        match node:
            case ir.Call():
                functions[node.function] = None
            case ir.Holds():
                rules[node.group] = None
            case ir.Raise():
                raises.add(node.kind)
            case ir.Read():
                reads.add(node.name)
            case ir.ReadMemory():
                reads.add(node.memory)
            case ir.WriteMemory():
                stores.append(node)
            case ir.WriteState():
                updates.append(node)
    return Names(
        tuple(functions),
        tuple(rules),
        frozenset(raises),
        frozenset(reads),
        frozenset(node.name for node in updates),
        tuple(updates),
        tuple(stores),
    )


def reachable_functions(
    program: ir.Program,
    roots: Iterable[object],
    without: frozenset[str] = frozenset(),
    known: Container[str] = (),
) -> list[ir.Function]:
    """The functions that the roots call, directly or not, but for those with a source name in `without`.

    Those with a name in `known` are left out too, with all that they call.
    """
    found: dict[str, ir.Function] = {}
    pending = [name for root in roots for name in _called(program, root)]
    while pending:
        name = pending.pop()
        if name not in found and name not in known and program.functions[name].source not in without:
            found[name] = program.functions[name]
            pending.extend(_called(program, found[name].body))
    return list(found.values())


def _called(program: ir.Program, body: object) -> Sequence[str]:
    """The functions called in a body, and in the rules that it asks for."""
    names = names_in(body)
    in_rules = [one for group in names.rules for one in _called(program, program.rules[group])]
    return (*names.functions, *in_rules) if in_rules else names.functions


def state_read(program: ir.Program, expression: ir.Expr) -> frozenset[str]:
    """The names of the state variables and memories that an expression reads, through calls too."""
    bodies = [expression, *(function.body for function in reachable_functions(program, [expression]))]
    return frozenset().union(*(names_in(body).reads for body in bodies))
