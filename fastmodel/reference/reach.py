"""What a set of functions and instructions uses: functions, rules and variables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass

from grammar import ir

_TYPES = (ir.Bool, ir.Bits, ir.Newtype, ir.Enum, ir.Bitfield, ir.Struct)


class Reach:
    """Everything that is reached, each by its name in the order in which it was found."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self.functions: dict[str, ir.Function] = {}
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
            case ir.Read(name=name) | ir.WriteState(name=name):
                variable = self._program.state[name]
                if variable.space != "ghost":
                    self.variables[name] = variable
        if is_dataclass(node) and not isinstance(node, _TYPES):
            for part in fields(node):
                self.node(getattr(node, part.name))


def reach(program: ir.Program, functions: Iterable[str]) -> Reach:
    """What these functions and the bodies of all instructions use."""
    found = Reach(program)
    for name in functions:
        found.function(name)
    for instruction in program.instructions.values():
        for body in instruction.bodies:
            found.node(body.body)
    return found
