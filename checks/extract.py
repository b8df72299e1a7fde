"""Cuts out of a program the part that a group of theorems is made from.

A group is built from its extract and from nothing else: what the extract lacks cannot be used, so that the extract's
digest says whether the group has to be proved again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from checks.walk import reachable_functions
from grammar import ir


@dataclass(frozen=True, slots=True)
class Roots:
    """What a group starts from: names of instructions and steps, and of functions in the source.

    All state, memories and aborts belong to every extract, since the theorems are about all that the guest sees and
    the VMM owns; so do policies and invariants, which the theorems assume, unless `has_policies` or `has_invariants`
    is False.
    """

    instructions: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()
    has_policies: bool = True
    has_invariants: bool = True


def extract(program: ir.Program, roots: Roots | None) -> ir.Program:
    """The part of a program that is reached from the roots; all of it if they are not known."""
    if roots is None:
        return program
    kept = replace(
        program,
        instructions={name: program.instructions[name] for name in roots.instructions},
        steps={name: program.steps[name] for name in roots.steps},
        policies=program.policies if roots.has_policies else {},
        invariants=program.invariants if roots.has_invariants else {},
        handlers={},
        undefined_encodings=(),
        missing={},
    )
    named = {name: f for name, f in program.functions.items() if f.source in roots.functions}
    reached = {
        f.name for f in reachable_functions(program, [*_bodies(kept), *(f.body for f in named.values())])
    }
    return replace(
        kept, functions={name: f for name, f in program.functions.items() if name in named or name in reached}
    )


def _bodies(program: ir.Program) -> Iterator[object]:
    """Everything outside functions that may call one."""
    for variable in program.state.values():
        yield from (variable.owner, variable.view, variable.host)
    yield from (abort.guard for abort in program.aborts.values())
    yield from (instruction.bodies for instruction in program.instructions.values())
    yield from (step.body for step in program.steps.values())
    yield from (one.condition for one in (*program.policies.values(), *program.invariants.values()))
