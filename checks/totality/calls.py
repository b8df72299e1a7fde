"""Runs a function on the reference model where calls do what a case says, instead of what their text says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from checks.case import Case, set_item, value_of
from checks.totality.havoc import EXECUTE
from grammar import ir
from refmodel.generate.names import Names
from refmodel.model import Model
from refmodel.runtime import Abort
from refmodel.vectors import CaseError

Watch = Callable[[Any, str, tuple[Any, ...]], None]
"""Called with the machine, the name of a call and its arguments, before the call does anything."""


class ScriptedCalls:
    """The calls of a case whose `instruction` is "function; call; …; claim"; they are made in this order."""

    def __init__(self, case: Case, model: Model, watch: Watch) -> None:
        """Raises CaseError if the specification has no such function."""
        self.case, self.model, self.watch = case, model, watch
        self.name, *self.names = case.instruction.split("; ")
        self.claim = self.names.pop() if self.names else ""
        unknown = {self.name, *self.names} - {EXECUTE, *model.program.functions}
        if unknown:
            raise CaseError(f"the specification has no function '{min(unknown)}'")
        self.made = 0
        self.result: Any = None

    def run(self, machine: Any) -> Abort | None:
        """Runs the function: what it raises, None if it returns, with `result`.

        Raises CaseError if other calls are made.
        """
        function = self.model.program.functions[self.name]
        arguments = (self._value(f"{self.name}.{p.name}", p.type) for p in function.parameters)
        with self._stubs(machine):
            try:
                self.result = self.model.namespace[Names.function(self.name)](machine, *arguments)
            except Abort as abort:
                return abort
        return None

    @contextmanager
    def _stubs(self, machine: Any) -> Iterator[None]:
        """Puts what the case says in place of the functions that it names, and of `execute`."""
        stubs = {Names.function(name): self._stub(name) for name in self.names if name != EXECUTE}
        kept = {name: self.model.namespace[name] for name in stubs}
        members = {EXECUTE: self._stub(EXECUTE), "__slots__": ()}
        machine.__class__ = type("Scripted", (type(machine),), members)
        self.model.namespace.update(stubs)
        try:
            yield
        finally:
            self.model.namespace.update(kept)

    def _stub(self, name: str) -> Callable[..., Any]:
        def call(machine: Any, *arguments: Any) -> Any:
            return self._call(name, machine, arguments)

        return call

    def _call(self, name: str, machine: Any, arguments: tuple[Any, ...]) -> Any:
        if self.names[self.made : self.made + 1] != [name]:
            raise CaseError(f"the reference calls {name}, the case does not")
        self.watch(machine, name, arguments)
        prefix, program = f"{self.made}: ", self.model.program
        self.made += 1
        said = {n.removeprefix(prefix): v for n, v in self.case.expected.items() if n.startswith(prefix)}
        for item, value in said.items():
            if item.split("[")[0] in program.state:
                set_item(machine, program, item, value)
        for kind, abort in program.aborts.items():
            if f"raises {kind}" in said:
                raise self.model.namespace[f"{kind}Abort"](self._value(f"{prefix}{kind}", abort.type))
        function = program.functions.get(name)
        if function is None or function.result is None:
            return None
        return self._value(f"{prefix}result", function.result)

    def _value(self, name: str, type_: ir.Type) -> Any:
        return value_of(self.case, self.model, name, type_)
