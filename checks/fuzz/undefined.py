"""Finding out what the architecture leaves undefined: the specification with every undefined value inverted.

What then comes out differently is undefined, and no engine is wrong for giving either value.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from grammar import ir


def inverted(program: ir.Program) -> ir.Program:
    """The same program, except that `undefined(e)` gives the complement of e."""
    result: ir.Program = _invert(program)
    return result


def _invert(node: Any) -> Any:
    match node:
        case ir.Undefined(type_, value, _):
            return ir.Unary(type_, "not" if type_ == ir.BOOL else "~", _invert(value))
        case tuple():
            return tuple(_invert(part) for part in node)
        case dict():
            return {key: _invert(part) for key, part in node.items()}
        case _ if dataclasses.is_dataclass(node) and not isinstance(node, type):
            return type(node)(*(_invert(getattr(node, f.name)) for f in dataclasses.fields(node)))
    return node
