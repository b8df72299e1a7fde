"""What a set of functions and instructions uses: functions, handlers, rules and variables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from grammar import ir

_PARTS: dict[Any, tuple[str, ...]] = {}
_PLAIN = (str, int, bool, type(None))  # what an expression or statement has that is neither


class Reach:
    """Everything that is reached, each by its name in the order in which it was found."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self.functions: dict[str, ir.Function] = {}
        self.handlers: dict[str, ir.Handler] = {}
        self.rules: dict[str, ir.Rules] = {}
        self.variables: dict[str, ir.StateVariable] = {}

    def function(self, name: str) -> None:
        """Adds a function and what it uses."""
        if name not in self.functions:
            function = self.functions[name] = self._program.functions[name]
            self.node((function.body, function.keys))

    def node(self, node: object) -> None:
        """Adds what an expression, a statement or a tuple of them uses."""
        match node:
            case tuple():
                for part in node:
                    self.node(part)
                return
            case ir.Call(function=name):
                self.function(name)
            case ir.Holds(group=group) if group not in self.rules:
                rules = self.rules[group] = self._program.rules[group]
                self.node(tuple(rule.condition for rule in rules.rules))
            case ir.Dispatch() if not self.handlers:
                self.handlers = self._program.handlers
                self.node(tuple(handler.body for handler in self.handlers.values()))
            case ir.Read(name=name) | ir.WriteState(name=name):
                variable = self._program.state[name]
                if variable.space != "ghost":
                    self.variables[name] = variable
        for name in _parts(type(node)):
            part = getattr(node, name)
            if type(part) not in _PLAIN:
                self.node(part)


def _parts(kind: Any) -> tuple[str, ...]:
    """The attributes of an expression or statement that may have parts of their own."""
    found = _PARTS.get(kind)
    if found is None:
        names = (part.name for part in fields(kind)) if is_dataclass(kind) else ()
        found = _PARTS[kind] = tuple(name for name in names if name not in ("span", "type"))
    return found


def reach(program: ir.Program, functions: Iterable[str]) -> Reach:
    """What these functions and the bodies of all instructions use."""
    found = Reach(program)
    for name in functions:
        found.function(name)
    for instruction in program.instructions.values():
        for body in instruction.bodies:
            found.node(body.body)
    return found
