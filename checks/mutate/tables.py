"""The items of a program that mutants are in, by table and name, and programs with some of them changed.

An item is what has a name of its own in the source: also a single rule of VM entry (`control_rules.vpid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

from grammar import ir

Item: TypeAlias = ir.Function | ir.Instruction | ir.Step | ir.Predicate | ir.Handler | ir.StateVariable

RULES = "rules"
TABLES = ("instructions", "functions", "steps", "policies", "invariants", "handlers", RULES, "state")


def items(program: ir.Program, table: str) -> Mapping[str, Item]:
    """The items of a table by name; of the functions that were made for several widths each."""
    if table == RULES:
        return {f"{g.name}.{rule.name}": rule for g in program.rules.values() for rule in g.rules}
    found: Mapping[str, Item] = getattr(program, table)
    return found


def source_name(name: str, item: Item) -> str:
    """The name in the source of the item that has this name in its table; several may share it."""
    if isinstance(item, ir.Function):
        return item.source
    return (isinstance(item, ir.Instruction) and item.family) or name


def items_named(program: ir.Program, table: str, name: str) -> dict[str, Item]:
    """The items with this name in the source."""
    return {n: item for n, item in items(program, table).items() if source_name(n, item) == name}


def with_items(program: ir.Program, changed: Mapping[str, Mapping[str, Any]]) -> ir.Program:
    """The program with other items, by table and name; functions that have the bodies of steps and handlers follow."""
    functions = {**program.functions, **changed.get("functions", {})}
    for table, prefix in (("steps", ""), ("handlers", "handle_")):
        for name, item in changed.get(table, {}).items():
            functions[prefix + name] = replace(functions[prefix + name], body=item.body)
    tables = {t: {**getattr(program, t), **some} for t, some in changed.items() if t != RULES}
    tables |= {"functions": functions, RULES: _with_rules(program, changed.get(RULES, {}))}
    return replace(program, **cast(Any, tables))


def _with_rules(program: ir.Program, changed: Mapping[str, ir.Predicate]) -> dict[str, ir.Rules]:
    groups = {name.split(".")[0] for name in changed}
    return {
        name: replace(g, rules=tuple(changed.get(f"{name}.{one.name}", one) for one in g.rules))
        if name in groups
        else g
        for name, g in program.rules.items()
    }
