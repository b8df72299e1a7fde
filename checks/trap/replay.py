"""Replays a counterexample to a trap theorem on the reference model, and says whether it is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from checks.case import Case, apply, get_item, set_item, value_of
from checks.output import output_console
from checks.trap.concrete import item, show
from grammar import ir
from refmodel.memory import EndlessMemory
from refmodel.model import Model
from refmodel.vectors import CaseError

MEMORY_BYTES = 1 << 26
_PAGE = 4096
COMPLETES, EXITS = "completes", "exits"

Looks = dict[str, int]
"""Values by item: what the guest sees, or what the VMM owns."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run did, and the machine after it."""

    text: str
    machine: Any

    @property
    def stays(self) -> bool:
        """It did not exit to the VMM."""
        return not self.text.startswith(EXITS)


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the reference violates the theorem too, 1 if it does not.  Raises CaseError."""
    theorem = case.id.rsplit(".", 1)[-1]
    if theorem not in _THEOREMS:
        raise CaseError(f"'{case.id}' does not name a theorem about an instruction")
    verdict = compare(theorem, case, model)
    decisions_differ = theorem == "C" and verdict.outcomes_differ
    is_violated = verdict.stays_and_differs or decisions_differ
    print_verdict(case, verdict)
    print(f"CONFIRMED: {case.text}" if is_violated else "not confirmed: the reference keeps the theorem here")
    return 0 if is_violated else 1


def outcome(case: Case, model: Model) -> str:
    """What the first run of the case does.  Raises CaseError."""
    player = Player(case, model)
    return player.run(player.machine({})).text


def compare(theorem: str, case: Case, model: Model) -> Verdict:
    """What a theorem (C, I or E) compares, on the reference.  Raises CaseError."""
    return _THEOREMS[theorem](Player(case, model))


def print_verdict(case: Case, verdict: Verdict) -> None:
    """The instruction, and both sides as far as they differ."""
    outcomes = [("it", verdict.left.text, verdict.right.text)] if verdict.right is not None else []
    print_rows(case, [*outcomes, *verdict.rows])


def print_rows(case: Case, rows: Iterable[tuple[str, str, str]]) -> None:
    """What the case is about, and rows of its columns."""
    table = Table(box=SIMPLE)
    for column in ("", *case.columns):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    code = f" ({case.code.hex(' ')})" if case.code else ""
    console = output_console()
    console.print(f"{case.id}: {case.instruction}{code}", highlight=False)
    console.print(table)


class Player:
    """Makes machines of a case and runs its instruction on them."""

    def __init__(self, case: Case, model: Model) -> None:
        self.case, self.model = case, model
        self.variables = [v for v in model.program.state.values() if v.space in ("register", "vmcs")]

    def machine(self, changes: Mapping[str, int]) -> Any:
        """A machine in the case's start state, with changes."""
        machine = self.model.machine(EndlessMemory(MEMORY_BYTES))
        apply(self.case, machine, self.model)
        for name, value in changes.items():
            set_item(machine, self.model.program, name, value)
        return machine

    def bare(self) -> Any:
        """The bare machine that the guest believes to have, in the state that it sees."""
        seen = self.looks("view", self.machine({}))
        machine = self.model.machine(EndlessMemory(MEMORY_BYTES))
        for address, data in self.case.memory:
            machine.PHYSICAL.write_bytes(address, data)
        for name, value in {**self.others(), **seen}.items():
            set_item(machine, self.model.program, name, value)
        return machine

    def others(self) -> dict[str, int]:
        """What the other start state has of its own; `expected` has the arguments of a function, too."""
        state = self.model.program.state
        return {name: value for name, value in self.case.expected.items() if name.split("[")[0] in state}

    def run(self, machine: Any) -> Outcome:
        """Executes the case's instruction, or calls its function."""
        act = self._decoded if self.case.code else self._called
        fault, vm_exit = (self.model.namespace[f"{kind}Abort"] for kind in ("Fault", "VmExit"))
        try:
            act(machine)
        except fault as abort:
            return Outcome(f"faults: {self.words(abort.value)}", machine)
        except vm_exit as abort:
            reason = self.model.program.aborts["VmExit"].type.fields[0][1]
            return Outcome(f"{EXITS}: {show(int(abort.value[0]), reason)}", machine)
        except self.model.outside as error:
            raise CaseError(self.model.what_is_outside(error)) from None
        return Outcome(COMPLETES, machine)

    def _decoded(self, machine: Any) -> None:
        """Decodes and executes the instruction; fetching it is not part of the theorems."""
        decoder = self.model.decoders[self.model.functions["code_size"](machine)]
        decoded = decoder.decode(self.case.code)
        machine.current = decoded  # which says what sizes and which repetition its prefixes ask for
        machine.instruction_length = decoded.length
        machine.NEXT_RIP = machine.RIP + decoded.length & decoder.offset_mask
        decoded.run(machine, *decoded.operands)

    def _called(self, machine: Any) -> None:
        """Calls the function with what the case says."""
        function = self.model.program.functions.get(self.case.instruction)
        if function is None:
            raise CaseError(f"the specification has no function '{self.case.instruction}'")
        names = ((f"{function.name}.{p.name}", p.type) for p in function.parameters)
        arguments = (value_of(self.case, self.model, name, type_) for name, type_ in names)
        self.model.functions[function.name](machine, *arguments)

    def words(self, value: Any) -> str:
        """The fields of a fault that are not zero."""
        fields = self.model.program.aborts["Fault"].type.fields
        parts = ((name, int(one), t) for (name, t), one in zip(fields, value, strict=True))
        return ", ".join(f"{name} {show(one, t)}" for name, one, t in parts if one)

    def looks(self, part: str, machine: Any) -> Looks:
        """`view` or `host` of everything, in the state of a machine."""
        found: Looks = {}
        for variable in self.variables:
            function = self.model.functions.get(f"{part}_{variable.name}")
            if function is None or isinstance(variable.type, ir.Struct):
                continue
            for indices in self._indices(variable, machine):
                found[item(variable.name, indices)] = int(function(machine, *indices))
        return found

    def _indices(self, variable: ir.StateVariable, machine: Any) -> Iterator[tuple[int, ...]]:
        """The indices of all elements, or of those written if there are many; () for a variable without."""
        if not variable.indices:
            yield ()
            return
        elements = getattr(machine, variable.name)
        keys = sorted(elements) if isinstance(elements, dict) else range(len(elements))
        for key in keys:
            yield key if isinstance(key, tuple) else (key,)

    def raw(self, names: Looks, machine: Any) -> Looks:
        """The plain values of items."""
        return {name: get_item(machine, self.model.program, name) for name in names}

    def rows(self, a: Looks, b: Looks) -> list[tuple[str, str, str]]:
        """The items that differ."""
        state = self.model.program.state
        return [
            (
                name,
                show(a.get(name, 0), state[name.split("[")[0]].type),
                show(b.get(name, 0), state[name.split("[")[0]].type),
            )
            for name in sorted({*a, *b})
            if a.get(name, 0) != b.get(name, 0)
        ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out: the outcomes of both runs, None for the second if there is one run only, and what differs."""

    left: Outcome
    right: Outcome | None
    rows: list[tuple[str, str, str]]

    @property
    def outcomes_differ(self) -> bool:
        """One run does not end as the other does."""
        return self.right is not None and self.left.text != self.right.text

    @property
    def stays_and_differs(self) -> bool:
        """The first run does not exit, and there is a difference."""
        return self.left.stays and (bool(self.rows) or self.outcomes_differ)

    @property
    def both_stay(self) -> bool:
        """No run exits."""
        return self.left.stays and (self.right is None or self.right.stays)


def _confidentiality(player: Player) -> Verdict:
    left, right = player.run(player.machine({})), player.run(player.machine(player.others()))
    rows = player.rows(player.looks("view", left.machine), player.looks("view", right.machine))
    return Verdict(left, right, rows + _memory(left, right))


def _integrity(player: Player) -> Verdict:
    before = player.looks("host", player.machine({}))
    after = player.run(player.machine({}))
    rows = player.rows(before, player.looks("host", after.machine)) if after.stays else []
    return Verdict(after, None, rows)


def _equivalence(player: Player) -> Verdict:
    guest, bare = player.run(player.machine({})), player.run(player.bare())
    seen = player.looks("view", guest.machine)
    return Verdict(guest, bare, player.rows(seen, player.raw(seen, bare.machine)) + _memory(guest, bare))


def _memory(left: Outcome, right: Outcome) -> list[tuple[str, str, str]]:
    """The first byte of memory that differs."""
    a, b = (one.machine.PHYSICAL.read_bytes(0, MEMORY_BYTES) for one in (left, right))
    if a == b:
        return []
    page = next(n for n in range(0, MEMORY_BYTES, _PAGE) if a[n : n + _PAGE] != b[n : n + _PAGE])
    address = next(n for n in range(page, page + _PAGE) if a[n] != b[n])
    return [(f"memory[{address:#x}]", f"{a[address]:#x}", f"{b[address]:#x}")]


_THEOREMS = {"C": _confidentiality, "I": _integrity, "E": _equivalence}
