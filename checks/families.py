"""The families of theorems, by name."""

from __future__ import annotations

import re
from dataclasses import replace

import z3

from checks.emulation.family import EmulationFamily
from checks.fast.family import FastFamily
from checks.host_state.family import HostStateFamily
from checks.host_state.instructions import InstructionGoals
from checks.isolation.family import Isolation
from checks.manual.family import ManualFamily
from checks.sensitivity.questions import SensitivityGoals
from checks.theorem import Family, Group
from checks.totality.family import TotalityFamily
from checks.trap.family import TrapFamily
from grammar.ir import Program


def families() -> dict[str, Family]:
    """All families. A family remembers what it found out about a program.

    `trap` proves the questions of `sensitive` along, and what of `host_state` is about instructions: they are made from
    the same terms.
    """
    return {
        family.name: family
        for family in (
            ManualFamily(),
            Isolation(),
            TrapFamily(beside=(SensitivityGoals(), InstructionGoals())),
            EmulationFamily(),
            HostStateFamily(),
            TotalityFamily(),
            FastFamily(),
        )
    }


def modules_of(family: Family) -> frozenset[str]:
    """The modules in which a family, and the goals beside it, are written."""
    return frozenset(type(one).__module__ for one in (family, *getattr(family, "beside", ())))


def build_alone(program: Program, family: str, group: str, context: z3.Context, ids: frozenset[str]) -> Group:
    """The terms of some goals of a program of which no others are wanted: no other instruction is prepared."""
    if family == "trap":
        named = {instruction_of(one) for one in ids}
        kept = {name: one for name, one in program.instructions.items() if name in named}
        program = replace(program, instructions=kept)
    built = families()[family].build(program, group, context, ids)
    return replace(built, goals=tuple(goal for goal in built.goals if goal.id in ids))


def instruction_of(goal: str) -> str:
    """The name in the id of a goal about an instruction: `CLTS` of `trap.CLTS.E`."""
    return re.split(r"[./]", goal)[1]
