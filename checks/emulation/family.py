"""The family `emulation`: handling an exit equals execution on the bare machine, for every form that can exit, and for
events: exceptions that exit, and exits in the middle of a delivery.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import z3

from checks.emulation import events
from checks.emulation.claims import Emulation
from checks.emulation.machine import PORTS, PORTS_WIDTH, Machine
from checks.emulation.runs import ACTIVE, DIFFERS, Player
from checks.host_state.built import Built
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import AbstractTerms
from checks.theorem import Goal, Group, Outline
from checks.trap.compare import Comparer
from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.trap.family import Prepared
from checks.trap.forms import Form
from checks.trap.runs import Settings
from checks.trap.subject import Subject, begin
from checks.walk import names_in
from grammar import ir


@dataclass(slots=True)
class EmulationFamily:
    """Theorems about what the VMM's handlers make of an exit."""

    name: str = "emulation"
    _prepared: dict[int, Exiting] = field(default_factory=dict)

    def outlines(self, program: ir.Program) -> Iterator[Outline]:
        """One group for each file of instructions."""
        for file, forms in self._of(program).groups.items():
            yield Outline(f"{self.name}.{file}", tuple(f"{self.name}.{form.name}" for form in forms))
        if DIFFERS in program.functions:
            yield Outline(events.GROUP, tuple(events.GOALS))

    def build(
        self, program: ir.Program, group: str, context: z3.Context, ids: frozenset[str] | None = None
    ) -> Group:
        """The goals of one group: those of `ids`, or all."""
        exiting, is_about_events = self._of(program), group == events.GROUP
        settings = start_of(exiting, context, events.CONTROLS if is_about_events else frozenset())
        comparer = Comparer(exiting.prepared.ownership, settings.terms, each_below=17)
        emulation = Emulation(Player(settings), comparer, exiting.built.constants.keys())
        goals = [
            self._goal(emulation, form, exiting)
            for form in exiting.groups.get(group.removeprefix(f"{self.name}."), ())
            if ids is None or f"{self.name}.{form.name}" in ids
        ]
        if is_about_events:
            wanted = (make for name, make in events.GOALS.items() if ids is None or name in ids)
            goals += [make(emulation, program) for make in wanted]
        promises = tuple(settings.terms.truth(condition) for _, condition in settings.promises())
        return Group(group, context, tuple(goals), promises, is_large=True)

    def _goal(self, emulation: Emulation, form: Form, exiting: Exiting) -> Goal:
        settings = emulation.player.settings
        subject = Subject(form, settings, emulation.comparer, exiting.prepared)

        def start(machine: Machine, cursor: Cursor, exits: Exits) -> None:
            begin(machine, subject.symbols, cursor, exits)

        def body(machine: Machine, cursor: Cursor, exits: Exits) -> None:
            machine.run(form.body.body, cursor, exits)

        return emulation.of_instruction(
            f"{self.name}.{form.name}", form, subject.symbols, (start, body), exiting.prepared
        )

    def _of(self, program: ir.Program) -> Exiting:
        if id(program) not in self._prepared:
            self._prepared[id(program)] = Exiting(program)
        return self._prepared[id(program)]


class Exiting:
    """What the family needs of a program: the forms that can exit by themselves, by file, and the VMCS of guests."""

    def __init__(self, program: ir.Program) -> None:
        self.prepared = Prepared(program)
        self.built = Built.of(program)
        self.groups: dict[str, list[Form]] = {}
        exits = _Exits(program)
        for forms in self.prepared.groups.values() if DIFFERS in program.functions else ():
            for form in forms:
                if exits.can_exit(form.body):
                    file = PurePath(form.instruction.span.file).stem
                    self.groups.setdefault(file, []).append(form)


def start_of(exiting: Exiting, context: z3.Context, free: Container[str] = frozenset()) -> Settings:
    """The states that the runs of a group start from: a VMCS that the VMM has built, a processor that is active.

    `free` are the fields of the VMCS that may be anything.
    """
    constants = {name: value for name, value in exiting.built.constants.items() if name not in free}
    known = {**constants, "ACTIVITY_STATE": ACTIVE}  # an instruction executes
    settings = Settings.create(exiting.prepared.ownership, AbstractTerms(context), known)
    settings.bare.set("ACTIVITY_STATE", ACTIVE)
    for variable in exiting.prepared.program.state.values():  # the declared differences may depend on it
        if variable.space == "state":
            first = settings.first
            settings.bare.set(
                variable.name, first.elements(variable.name) if variable.indices else first.get(variable.name)
            )
    for state in (settings.first, settings.bare):
        state.surroundings.memories[PORTS] = ByteMemory(settings.terms, PORTS_WIDTH, lambda _address: 0)
    settings.contract = replace(settings.contract, may_exit=False)
    return settings


class _Exits:
    """Finds what can reach an `exit` otherwise than by an access to memory; each body is looked through once."""

    def __init__(self, program: ir.Program) -> None:
        memory = frozenset(LOADS) | frozenset(STORES)
        left = {f.name: _named(f.body) for f in program.functions.values() if f.source not in memory}
        self._found = {VM_EXIT}
        while more := {name for name, named in left.items() if not self._found.isdisjoint(named)}:
            self._found |= more
            left = {name: named for name, named in left.items() if name not in more}
        self._known: dict[int, bool] = {}

    def can_exit(self, body: ir.InstructionBody) -> bool:
        """Whether the body of an instruction can."""
        if id(body) not in self._known:
            self._known[id(body)] = not self._found.isdisjoint(_named(body.body))
        return self._known[id(body)]


def _named(body: object) -> frozenset[str]:
    """The functions that a body calls, and the aborts that it raises."""
    names = names_in(body)
    return names.raises.union(names.functions)
