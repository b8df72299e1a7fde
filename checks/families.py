"""The families of theorems, by name."""

from __future__ import annotations

from dataclasses import replace

import z3

from checks.isolation.family import Isolation
from checks.theorem import Family, Group
from checks.trap.family import LEMMA, TrapFamily
from grammar.ir import Program


def families() -> dict[str, Family]:
    """All families. A family remembers what it found out about a program."""
    return {family.name: family for family in (Isolation(), TrapFamily())}


def build_alone(program: Program, family: str, group: str, context: z3.Context) -> Group:
    """The terms of one group of a program of which no other group is wanted.

    Where the group is about instructions, only those are prepared.
    """
    if family == "trap":
        program = _narrowed(program, group.removeprefix("trap."))
    return families()[family].build(program, group, context)


def _narrowed(program: Program, block: str) -> Program:
    kept = {
        name: instruction
        for name, instruction in program.instructions.items()
        if block != LEMMA and ((instruction.family or "").split("{")[0] or name) == block
    }
    return replace(program, instructions=kept)
