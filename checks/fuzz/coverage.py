"""Which clauses of the specification cases have reached, and which instructions lead to those that they have not.

A clause is a way that the text can go (refmodel/generate/clauses.py). What counts is what a cycle of the processor can
reach with the instructions that are drawn: other instructions do not; handlers of the VMM do where the VMM runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from checks.walk import nodes
from grammar import ir
from refmodel.model import Model, build

_DRAWN_PER_BONUS = 300  # after so many draws of an instruction its clauses that were not reached count half
_BONUS = 6.0  # how much more often an instruction is drawn none of whose clauses were reached

_DISPATCH = "dispatch"  # stands for the handlers among what is called

Clause = tuple[str, str, str]  # the place, the kind of statement (or the instruction), the outcome


def covered_model(model: Model) -> Model:
    """The model that notes which clauses it reaches."""
    key = hashlib.sha256(model.text.encode()).hexdigest()
    return build(model.program, f"{key}-covered", covered=True)


@dataclass(frozen=True)
class _Part:
    """What a function or an instruction's body has: places of clauses, and the functions that it calls."""

    places: frozenset[str]
    calls: frozenset[str]


@dataclass
class Coverage:
    """The clauses of a covered model that count, and which of them were reached."""

    model: Model
    root: str
    names: Sequence[str]
    drawn: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = self.model.program
        self._hits: bytearray = self.model.namespace["HITS"]
        clauses: Sequence[Clause] = self.model.namespace["CLAUSES"]
        self._parts = {name: _part(function.body) for name, function in program.functions.items()}
        self._parts[_DISPATCH] = _part(tuple(handler.body for handler in program.handlers.values()))
        common = self._places(self._parts[self.root].calls | {self.root, "fetch_translate"})
        own = {name: self._own(program.instructions[name]) - common for name in self.names}
        counted = common.union(*own.values())
        self._counted = [n for n, (place, _, _) in enumerate(clauses) if place in counted]
        self._clauses = clauses
        self._of_instruction = {
            name: [n for n in self._counted if clauses[n][0] in places] for name, places in own.items()
        }

    def _own(self, instruction: ir.Instruction) -> frozenset[str]:
        parts = [_part(body.body) for body in instruction.bodies]
        calls = frozenset[str]().union(*(part.calls for part in parts))
        return frozenset({str(instruction.span)}).union(self._places(calls), *(part.places for part in parts))

    def _places(self, functions: Iterable[str]) -> frozenset[str]:
        """The places of the clauses in these functions and all that they call."""
        found: set[str] = set()
        pending = list(functions)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self._parts[name].calls
        return frozenset[str]().union(*(self._parts[name].places for name in found))

    @property
    def total(self) -> int:
        """How many clauses count."""
        return len(self._counted)

    @property
    def reached(self) -> int:
        """How many of them were reached."""
        return sum(self._hits[n] for n in self._counted)

    def mark(self) -> bytes:
        """What was reached so far, to be compared later."""
        return bytes(self._hits)

    def has_grown(self, mark: bytes) -> bool:
        """Whether more was reached since."""
        return self._hits != mark

    def forget(self) -> None:
        """Nothing was reached yet."""
        self._hits[:] = bytes(len(self._hits))

    def add(self, clauses: Collection[Clause]) -> None:
        """Takes clauses for reached: by an earlier run."""
        for n in self._counted:
            if self._clauses[n] in clauses:
                self._hits[n] = 1

    def reached_clauses(self) -> list[Clause]:
        """Those that were reached."""
        return [self._clauses[n] for n in self._counted if self._hits[n]]

    def never_reached(self) -> list[Clause]:
        """Those that were not, in the order of the specification's files."""
        return sorted((self._clauses[n] for n in self._counted if not self._hits[n]), key=_in_order)

    def note_drawn(self, names: Iterable[str]) -> None:
        """Counts how often instructions were drawn."""
        for name in names:
            self.drawn[name] = self.drawn.get(name, 0) + 1

    def weights(self) -> Mapping[str, float]:
        """How often to draw each instruction: more often while clauses of its own were not reached."""
        return {name: 1 + _BONUS * self._promise(name) for name in self.names}

    def _promise(self, name: str) -> float:
        own = self._of_instruction[name]
        missing = sum(1 for n in own if not self._hits[n]) / max(1, len(own))
        return missing / (1 + self.drawn.get(name, 0) / _DRAWN_PER_BONUS)


def _part(body: object) -> _Part:
    found = list(nodes(body))
    return _Part(
        frozenset(str(node.span) for node in found if isinstance(node, ir.If)),
        frozenset(node.function for node in found if isinstance(node, ir.Call))
        | {_DISPATCH for node in found if isinstance(node, ir.Dispatch)},
    )


def _in_order(clause: Clause) -> tuple[str, int, int, str]:
    file, line, column = clause[0].rsplit(":", 2)
    return file, int(line), int(column), clause[2]


def clause_text(clause: Clause) -> str:
    """`spec/cpu/memory.isa:24:5 check fails`."""
    return " ".join(clause)
