"""What the text of an instruction mentions: one that mentions nothing of virtualization is innocuous as it stands.

Accesses to linear memory stand behind the contract of `checks.trap.contract`, so what they mention does not count.
"""

from __future__ import annotations

from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.trap.initial import is_shared
from checks.trap.operands import FUNCTIONS
from checks.walk import names_in
from grammar import ir

EXIT = "a VM exit"
"""What a text with an `exit` clause mentions."""

_BOUNDARY = frozenset({*LOADS, *STORES})


class Texts:
    """What texts of one program mention: names of state and memories, and `EXIT`."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self._known: dict[str, frozenset[str]] = {}
        self._guests = frozenset(v.name for v in program.state.values() if _is_guests(v))
        operands = [f for f in program.functions.values() if f.source in FUNCTIONS]
        self._operands = frozenset().union(*(self._of_function(f.name) for f in operands))

    def is_plain(self, body: tuple[ir.Stmt, ...]) -> bool:
        """Whether the text mentions only registers that are the guest's whatever the controls."""
        return (self.mentioned(body) | self._operands) <= self._guests

    def mentioned(self, node: object) -> frozenset[str]:
        """What a text and the functions that it calls mention."""
        names = names_in(node)
        exits = {EXIT} if VM_EXIT in names.raises else set[str]()
        called = (self._of_function(name) for name in names.functions)
        return names.reads.union(names.writes, (one.memory for one in names.stores), exits, *called)

    def _of_function(self, name: str) -> frozenset[str]:
        if name not in self._known:
            function = self._program.functions[name]
            self._known[name] = frozenset() if function.source in _BOUNDARY else self.mentioned(function.body)
        return self._known[name]


def _is_guests(variable: ir.StateVariable) -> bool:
    return variable.space == "register" and is_shared(variable)
