"""The groups of theorems that mutants are tried on, in the order in which they are tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import z3

from checks.emulation.events import GROUP as EVENTS
from checks.emulation.family import EmulationFamily
from checks.emulation.runs import CYCLE, RUN_ONE
from checks.extract import extract
from checks.host_state.built import BOOT, START
from checks.host_state.family import HostStateFamily
from checks.host_state.instructions import GROUP as INSTRUCTIONS
from checks.host_state.instructions import InstructionGoals
from checks.host_state.registers import BEGINNING
from checks.isolation.family import Isolation
from checks.isolation.patterns import find_patterns
from checks.manual.family import ManualFamily
from checks.mutate.places import Mutant
from checks.mutate.scope import is_of_msr_areas
from checks.mutate.tables import RULES, items
from checks.theorem import Family, Group, Outline
from checks.totality.family import TotalityFamily
from checks.trap.family import TrapFamily
from checks.walk import reachable_functions
from grammar import ir

FAMILIES = ("manual", "host_state", "isolation", "trap", "totality", "emulation")
"""The families about virtualization, those first whose groups are quickly tried."""

HARD = frozenset({"emulation"})
"""The families whose goals take so long to prove that mutants are asked about one by one."""

COMMON = frozenset({"emulation.idle", EVENTS})
"""What many handlers share is tried on these groups of such a family, and no others."""

FEW = 3
"""A function that so few steps use is part of them; one that more handlers use is shared."""

ABOUT_NEW_GUESTS = frozenset({f"host_state.{START}", BEGINNING})
"""The groups about what makes guests. The others take for granted what its theorems say."""

PROMISES = ("policies", RULES)
"""The tables of what every guest is promised."""

Item = tuple[str, str]
"""A table of the program and the source name of an item in it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A group of theorems.

    Mutants of `alone` are tried one by one, each in a program of its own: such a step would be proved in as many cases
    as it has places that choices change. Those of `untouched` are not tried: what the group takes as constant depends
    on them, and other theorems say what it is. In a
    group that `is_hard` each proof takes long, and mutants are asked about one by one. What `is_beside` has the goals
    beside those of the family which say that instructions keep the promises.
    """

    family: str
    outline: Outline
    alone: frozenset[Item] = frozenset()
    untouched: frozenset[Item] = frozenset()
    is_hard: bool = False
    is_beside: bool = False


@dataclass(slots=True)
class Targets:
    """The groups of one program."""

    program: ir.Program
    families: Sequence[str]
    _made: dict[str, Family] = field(init=False)
    _beside: Family = field(init=False)

    def __post_init__(self) -> None:
        patterns = find_patterns(self.program) if self.program.invariants else None
        made: tuple[Family, ...] = (
            ManualFamily(),
            HostStateFamily(),
            Isolation(patterns),
            TrapFamily(),
            TotalityFamily(),
            EmulationFamily(),
        )
        self._made = {family.name: family for family in made}
        self._beside = TrapFamily(beside=(InstructionGoals(),))

    def all(self) -> Iterator[Target]:
        """Every group."""
        for name in FAMILIES:
            if name in self.families or not self.families:
                yield from self._of(name)
        if not self.families or self._beside.name in self.families:
            yield from self._of_promises()

    def build(self, program: ir.Program, target: Target) -> Group:
        """The terms of the group, for a program with mutants in it."""
        cut = extract(program, target.outline.roots)
        family = self._beside if target.is_beside else self._made[target.family]
        return family.build(cut, target.outline.group, z3.Context(), frozenset(target.outline.ids))

    def _of_promises(self) -> Iterator[Target]:
        """That instructions keep the promises is tried on faults in these alone: its terms are large."""
        others = frozenset(one for one in items_of(self.program) if one[0] not in PROMISES)
        for outline in self._beside.outlines(self.program):
            ids = tuple(one for one in outline.ids if one.startswith(f"{INSTRUCTIONS}."))
            if ids:
                yield Target(self._beside.name, replace(outline, ids=ids), untouched=others, is_beside=True)

    def _of(self, name: str) -> Iterator[Target]:
        outlines = list(self._made[name].outlines(self.program))
        own = self._steps() if name == "isolation" else {}
        for outline in outlines:
            subject = outline.group.removeprefix(f"{name}.")
            takes_as_built = (
                name in (*HARD, "totality", "host_state") and outline.group not in ABOUT_NEW_GUESTS
            )
            untouched = self._building() if takes_as_built else frozenset[Item]()
            if name in HARD and outline.group not in COMMON:
                untouched |= self._shared()
            yield Target(name, outline, own.get(subject, frozenset()), untouched, name in HARD)

    def _shared(self) -> frozenset[Item]:
        """What the processor and the VMM do around each instruction, or in many handlers."""
        functions = self.program.functions
        around = [functions[name] for name in (CYCLE, RUN_ONE) if name in functions]
        names = {f.source for f in (*around, *reachable_functions(self.program, [f.body for f in around]))}
        count = Counter(
            source
            for handler in self.program.handlers.values()
            for source in {f.source for f in reachable_functions(self.program, [handler.body])}
        )
        names |= {name for name, times in count.items() if times > FEW}
        return frozenset(("functions", name) for name in names)

    def _steps(self) -> Mapping[str, frozenset[Item]]:
        """By step its own items: itself, and functions that few others use."""
        used = {
            name: {f.source for f in reachable_functions(self.program, [step.body])}
            for name, step in self.program.steps.items()
        }
        count = Counter(one for names in used.values() for one in names)
        return {
            name: frozenset({("steps", name), *(("functions", one) for one in names if count[one] <= FEW)})
            for name, names in used.items()
        }

    def _building(self) -> frozenset[Item]:
        """What the VMCS of a new guest is built by, and what works through the MSR areas that it does not have.

        What also runs later, such as the switch between guests, does not count.
        """
        functions = self.program.functions
        made = [functions[name] for name in (BOOT, START) if name in functions]
        made += reachable_functions(self.program, [f.body for f in made])
        running: list[object] = [handler.body for handler in self.program.handlers.values()]
        running += [functions[RUN_ONE].body] if RUN_ONE in functions else []
        later = {f.source for f in reachable_functions(self.program, running)}
        only = {f.source for f in made} - later
        return frozenset(
            ("functions", name)
            for name in only | {f.source for f in filter(is_of_msr_areas, functions.values())}
        )


def items_of(program: ir.Program) -> frozenset[Item]:
    """All that an extract has."""
    names = {("functions", f.source) for f in program.functions.values()}
    for table in ("steps", "policies", "invariants", "handlers", RULES, "state"):
        names |= {(table, name) for name in items(program, table)}
    return frozenset(names | {("instructions", i.family or n) for n, i in program.instructions.items()})


def is_among(mutant: Mutant, items: frozenset[Item]) -> bool:
    """Whether the mutant is in one of these items."""
    return (mutant.kind, mutant.name) in items
