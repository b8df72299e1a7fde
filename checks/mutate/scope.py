"""Which mutants there are: those of virtualization.

The VMM, its policies and invariants, and what the processor does for it. What an instruction does with and without VMX
alike is left out: that the specification says of it what processors do is tested, not proved.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from checks.mutate.places import Mutant, mutants
from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.walk import nodes, reachable_functions
from grammar import ir
from grammar.source import Span

_HOST_SPACES = frozenset({"vmcs", "state", "ghost"})
_WHOLE = ("vtd", "vmm")
"""The folders of the specification of which everything is taken."""
_PROCESSOR = "vmx"
"""The folder of what the processor does for the VMM."""
_MEMORY = frozenset({*LOADS, *STORES})


def candidates(program: ir.Program) -> list[Mutant]:
    """All mutants, in the order of the specification."""
    scope = _Scope(program)
    return [mutant for mutant in mutants(program) if scope.contains(mutant)]


def is_of_msr_areas(function: ir.Function) -> bool:
    """Whether the function works through MSR areas, which makes terms of hundreds of entries."""
    return PurePosixPath(function.span.file).stem == "msr_areas"


def area(mutant: Mutant) -> str:
    """The folder of the specification that the mutant is in."""
    return _folder(mutant.span)


def _folder(span: Span) -> str:
    return PurePosixPath(span.file).parent.name


def _vmm(program: ir.Program) -> list[object]:
    """What the VMM consists of."""
    predicates = [p.condition for p in (*program.invariants.values(), *program.policies.values())]
    steps = [step.body for step in program.steps.values()]
    return [*predicates, *steps, *(handler.body for handler in program.handlers.values())]


class _Scope:
    def __init__(self, program: ir.Program) -> None:
        guard = program.aborts[VM_EXIT].guard
        mode = guard.name if isinstance(guard, ir.Read) else ""
        self._names = {v.name for v in program.state.values() if v.space in _HOST_SPACES} | {mode}
        used = reachable_functions(program, _vmm(program), _MEMORY)
        touched = [f for f in program.functions.values() if self._is_touched(f.body)]
        below = reachable_functions(program, [f.body for f in touched])
        self._functions = {f.source for f in (*used, *touched)}
        self._functions |= {f.source for f in below if _folder(f.span) == _PROCESSOR}
        self._places: set[Span] = set()
        for instruction in program.instructions.values():
            for node in nodes(instruction.bodies):
                if isinstance(node, ir.Stmt) and self._is_virtual(node):
                    self._places.add(node.span)

    def contains(self, mutant: Mutant) -> bool:
        if mutant.kind == "functions":
            return mutant.name in self._functions or area(mutant) in _WHOLE
        return mutant.kind != "instructions" or mutant.span in self._places

    def _is_virtual(self, statement: ir.Stmt) -> bool:
        """An exit, or a statement that itself uses VMCS fields."""
        if isinstance(statement, ir.If):
            return statement.clause == "exit" or self._is_touched(statement.condition)
        return not isinstance(statement, ir.Attempt) and self._is_touched(statement)

    def _is_touched(self, body: object) -> bool:
        return any(
            isinstance(node, (ir.Read, ir.WriteState)) and node.name in self._names for node in nodes(body)
        )
