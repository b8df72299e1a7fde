"""Which slow functions may be called from a region, while the guest's registers are not in the state block."""

from __future__ import annotations

import ast
from functools import cache
from types import FunctionType

from fastmodel.compiler.program import WORDS, Instance, fold
from fastmodel.translator.frames import CONTROLS


@cache
def leaves_registers_alone(inside: Instance) -> bool:
    """Whether a slow function, and those that it calls, only look at the state block beyond the registers."""
    seen: set[Instance] = set()
    waiting = [inside]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if not _sums_reach_beyond_registers(one):
            return False
        for name in one.source.free:
            meaning = one.resolve(name)
            if isinstance(meaning, FunctionType) and meaning not in WORDS:
                waiting.append(one.callee(meaning))
    return True


def _sums_reach_beyond_registers(inside: Instance) -> bool:
    """Whether `state` is only handed on as `state`, or has an offset beyond the registers added to it."""
    tree = inside.source.tree
    harmless: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                if (fold(right, inside) or 0) >= CONTROLS:
                    harmless.add(left)
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if _takes_state(inside, name):
                harmless.add(first)
    return all(
        node in harmless for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "state"
    )


def _takes_state(inside: Instance, name: str) -> bool:
    """Whether a name stands for a function of a text whose first parameter is `state`."""
    function = inside.resolve(name)
    if not isinstance(function, FunctionType) or function in WORDS:
        return False
    return inside.callee(function).source.parameters[0] == "state"
