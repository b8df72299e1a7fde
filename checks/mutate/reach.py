"""Which theorems could notice a fault: those whose terms are made from the place where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from checks.families import instruction_of
from checks.isolation import structure, walks
from checks.mutate.places import Mutant, mutants, source_name
from checks.theorem import Family, Outline
from checks.trap.contract import EPT_BOUNDARY, LOADS, STORES, VM_EXIT
from checks.trap.events import event_functions
from checks.trap.lemmas import TRANSLATION, VIEWS
from checks.trap.ownership import Ownership
from checks.walk import nodes, reachable_functions, state_read
from grammar import ir
from grammar.source import Span

Item: TypeAlias = tuple[str, str]
"""A table of the program and the source name of an item in it."""

Field: TypeAlias = tuple[str, int, int]
"""Bits, the highest first, of a state variable."""

FAMILIES = ("manual", "isolation", "trap")
"""The families that mutants are judged by: those about virtualization."""

_BOUNDARY = frozenset(LOADS) | frozenset(STORES)
_HOST_SPACES = frozenset({"vmcs", "state", "ghost"})
_STEP_CLAIMS = ("is_data_of_others",)
_CLAIMS: dict[str, tuple[str, ...]] = {
    "walk": ("is_walking", "is_cached", "is_data_of", "walk_finds_own", "starts_at_own_root"),
    walks.EPT_TRANSLATE: (walks.EPT_TRANSLATE, "runs_with_own_tables", "is_own_table", "is_data_of"),
    "ept_rights": (walks.EPT_TRANSLATE,),
    "translate": ("translate", "is_data_of"),
    "device_walk": (
        *("is_device_walking", "device_walk_finds_own", "is_reached"),
        *("is_memory_of_owner", "may_interrupt", "is_vector_of"),
    ),
    "dma_translate": ("dma_translate", "is_memory_of_owner", "is_in_use", "has_own_context"),
    "dma_write": ("dma_write", "is_memory_of_owner"),
    "remap_interrupt": ("remap_interrupt", "is_interrupt_of", "interrupt_index", "has_own_context"),
}
"""The functions of the specification that the theorems of a group are about."""
_BEHIND = {"translate": EPT_BOUNDARY, "dma_write": frozenset({"dma_translate"})}
"""What stands behind a contract in a group: other groups are about it."""
_WITHOUT_INVARIANT = frozenset({"ept_rights", "translate", "dma_write"})
"""The groups that assume nothing of the VMM."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What goals are made from: `own` by their subject, `shared` by what all assume or conclude.

    They are the goals of a group, or those of it that are about one block of instructions, whose names are `subject`.
    """

    family: str
    group: str
    ids: frozenset[str]
    subject: tuple[str, ...]
    own: frozenset[Item]
    shared: frozenset[Item]
    fields: frozenset[Field] = frozenset()

    def rank(self, item: Item, fields: frozenset[Field]) -> tuple[bool, int, int]:
        """The groups most likely to notice a fault in an item that reads these fields come first."""
        return item not in self.own, -len(fields & self.fields), len(self.own)


class Reach:
    """The reach of all groups of one program."""

    def __init__(self, program: ir.Program, families: Iterable[Family]) -> None:
        self.program = program
        self._trap = _TrapReach(program)
        self._groups = [
            reached
            for family in families
            for outline in family.outlines(program)
            for reached in self._reached(family.name, outline)
        ]

    def groups(self, mutant: Mutant) -> list[Reached]:
        """The groups that could notice a mutant, the most likely first."""
        item = (mutant.kind, mutant.name)
        found = [group for group in self._groups if item in group.own or item in group.shared]
        fields = fields_read(one for name, one in self._items(mutant.kind) if name == mutant.name)
        return sorted(found, key=lambda group: (*group.rank(item, fields), group.subject))

    def _items(self, kind: str) -> Iterator[tuple[str, object]]:
        return ((source_name(one), one) for one in getattr(self.program, kind).values())

    def _reached(self, family: str, outline: Outline) -> Iterator[Reached]:
        subject, ids = outline.group.removeprefix(f"{family}."), frozenset(outline.ids)
        if family == "trap":
            yield from self._trap.of(outline, subject)
        elif family == "manual":
            own = _functions(self.program, [self.program.functions[subject].body]) | {("functions", subject)}
            yield Reached(family, outline.group, ids, (subject,), own, frozenset())
        elif family == "isolation":
            yield Reached(family, outline.group, ids, (subject,), *self._isolation(subject))

    def _isolation(self, subject: str) -> tuple[frozenset[Item], frozenset[Item]]:
        program = self.program
        if subject == structure.SUBJECT:  # dropping or changing a write makes none that is not allowed
            return frozenset(), frozenset()
        claims = _STEP_CLAIMS if subject in program.steps else _CLAIMS[subject]
        bodies = [program.functions[name].body for name in claims]
        own = {("functions", name) for name in claims}
        if subject in program.steps:
            own.add(("steps", subject))
            bodies.append(program.steps[subject].body)
        own |= _functions(program, bodies, _BEHIND.get(subject, frozenset()))
        if subject in _WITHOUT_INVARIANT:
            return frozenset(own), frozenset()
        shared = {("invariants", name) for name in program.invariants}
        shared |= _functions(program, [i.condition for i in program.invariants.values()])
        if subject == walks.EPT_TRANSLATE:
            shared |= {("policies", name) for name in program.policies}
            shared |= _functions(program, [p.condition for p in program.policies.values()])
        return frozenset(own), frozenset(shared)


@dataclass(slots=True)
class _TrapReach:
    """A goal about instructions depends on their own text, and on the policies and views of state that they use."""

    program: ir.Program
    _assumptions: list[tuple[frozenset[str], frozenset[Item]]] = field(default_factory=list)
    _inputs: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        program = self.program
        for policy in program.policies.values():
            items = _functions(program, [policy.condition]) | {("policies", policy.name)}
            self._assumptions.append((state_read(program, policy.condition), items))
        for variable in program.state.values():
            for part in (variable.view, variable.host, variable.owner):
                if part is not None:
                    read = state_read(program, part) | {variable.name}
                    self._assumptions.append((read, _functions(program, [part])))
        inputs = Ownership(program).all_inputs()
        self._inputs = frozenset().union(*(state_read(program, one) for one in inputs))

    def of(self, outline: Outline, subject: str) -> Iterator[Reached]:
        """What the goals of a group are made from; those about instructions block by block."""
        whole = ("trap", outline.group, frozenset(outline.ids), (subject,))
        events = {function.name: function for function in event_functions(self.program)}
        if subject == TRANSLATION:
            yield Reached(*whole, frozenset(), self._shared(self._inputs))
        elif subject == VIEWS:
            yield Reached(*whole, frozenset(), self._shared(frozenset(self.program.state)))
        elif subject in events:
            own = {("functions", events[subject].source)}
            yield Reached(*whole, *self._made_from([events[subject].body], own))
        else:
            for names, ids in self._by_block(outline.ids):
                bodies = [self.program.instructions[name].bodies for name in names]
                used = self._instructions(names)
                yield Reached("trap", outline.group, ids, names, *used, fields_read(bodies))

    def _by_block(self, ids: Iterable[str]) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
        """The names of the instructions of each block, and the goals about them."""
        blocks: dict[str, set[str]] = {}
        for one in ids:
            if not one.startswith("trap."):
                continue
            blocks.setdefault(source_name(self.program.instructions[instruction_of(one)]), set()).add(one)
        for goals in blocks.values():
            yield tuple(sorted({instruction_of(one) for one in goals})), frozenset(goals)

    def _instructions(self, names: Sequence[str]) -> tuple[frozenset[Item], frozenset[Item]]:
        instructions = [self.program.instructions[name] for name in names]
        operands = [f for f in self.program.functions.values() if f.source.endswith("_memory_operand")]
        roots: list[object] = [instruction.bodies for instruction in instructions]
        roots += [f.body for f in operands] if any(i.operands for i in instructions) else []
        return self._made_from(roots, {("instructions", source_name(instructions[0]))})

    def _made_from(self, roots: list[object], own: set[Item]) -> tuple[frozenset[Item], frozenset[Item]]:
        functions = reachable_functions(self.program, roots, _BOUNDARY)
        bodies = [*roots, *(f.body for f in functions)]
        used = frozenset(_state_named(bodies))
        if any(isinstance(n, ir.Call) and self._source(n) in _BOUNDARY for b in bodies for n in nodes(b)):
            used |= self._inputs
        return frozenset(own | {("functions", f.source) for f in functions}), self._shared(used)

    def _source(self, call: ir.Call) -> str:
        return self.program.functions[call.function].source

    def _shared(self, used: frozenset[str]) -> frozenset[Item]:
        return frozenset().union(*(items for read, items in self._assumptions if read & used))


def _functions(
    program: ir.Program, roots: Iterable[object], without: frozenset[str] = frozenset()
) -> frozenset[Item]:
    return frozenset(("functions", f.source) for f in reachable_functions(program, roots, without))


def fields_read(roots: Iterable[object]) -> frozenset[Field]:
    """The fields of state that are read, such as a control."""
    found: set[Field] = set()
    for root in roots:
        for node in nodes(root):
            match node:
                case ir.Bit(base=ir.Read(name=name), index=ir.Literal(value=index)):
                    found.add((name, index, index))
                case ir.Slice(base=ir.Read(name=name), high=high, low=low):
                    found.add((name, high, low))
    return frozenset(found)


def _state_named(roots: Iterable[object]) -> Iterator[str]:
    for root in roots:
        for node in nodes(root):
            if isinstance(node, (ir.Read, ir.WriteState)):
                yield node.name


def candidates(program: ir.Program) -> list[Mutant]:
    """The mutants of virtualization: of the VMM, its policies and invariants, and of what the processor does for it.

    What an instruction does with and without VMX alike is left out: that the specification says of it what processors
    do is tested, not proved.
    """
    scope = _Scope(program)
    return [mutant for mutant in mutants(program) if scope.contains(mutant)]


class _Scope:
    def __init__(self, program: ir.Program) -> None:
        guard = program.aborts[VM_EXIT].guard
        mode = guard.name if isinstance(guard, ir.Read) else ""
        self._names = {v.name for v in program.state.values() if v.space in _HOST_SPACES} | {mode}
        roots: list[object] = [s.body for s in program.steps.values()]
        roots += [p.condition for p in (*program.invariants.values(), *program.policies.values())]
        roots += [h.body for h in program.handlers.values()]
        claims = {*_STEP_CLAIMS, *(name for names in _CLAIMS.values() for name in names)}
        roots += [program.functions[name].body for name in claims]
        vmm = {f.source for f in reachable_functions(program, roots, frozenset())}
        vmm |= {f.source for f in program.functions.values() if self._is_touched(f.body)}
        self._functions = vmm | claims
        self._places: set[Span] = set()
        for instruction in program.instructions.values():
            for node in nodes(instruction.bodies):
                if isinstance(node, ir.Stmt) and self._is_virtual(node):
                    self._places.add(node.span)

    def contains(self, mutant: Mutant) -> bool:
        if mutant.kind == "functions":
            return mutant.name in self._functions
        return mutant.kind != "instructions" or mutant.span in self._places

    def _is_virtual(self, statement: ir.Stmt) -> bool:
        """An exit, or a statement that itself uses VMCS fields."""
        if isinstance(statement, ir.If):
            return statement.clause == "exit" or self._is_touched(statement.condition)
        return not isinstance(statement, ir.Attempt) and self._is_touched(statement)

    def _is_touched(self, body: object) -> bool:
        return not self._names.isdisjoint(_state_named([body]))
