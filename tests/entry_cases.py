"""VMCSs that tell a rule of VM entry from a faulty one: all other rules hold, and one field is changed if it can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import z3

from checks.manual.machine import Machine
from checks.mutate.places import Mutant, mutated
from checks.mutate.tables import RULES, items
from checks.symbolic.evaluate import Evaluator
from checks.walk import nodes, reachable_functions
from grammar import ir

MEMORY = 1 << 20
"""Addresses in the cases are below, so that a processor reads what the solver chose."""
NO_VMCS = (1 << 64) - 1
_POINTERS = ("VMCS_LINK_POINTER", "VIRTUAL_APIC_ADDRESS")
_TPR = 0x80


@dataclass(frozen=True, slots=True)
class Entry:
    """The fields of a VMCS by name, bytes of memory, and whether VM entry accepts it, by the right rules."""

    fields: Mapping[str, int]
    memory: Mapping[int, int]
    is_accepted: bool


class Cases:
    """Finds VMCSs that differ from `base` as little as it can."""

    def __init__(self, program: ir.Program, asked: frozenset[str], base: Mapping[str, int]) -> None:
        self._program, self._base = program, base
        self._machine = Machine.arbitrary(program, z3.Context())
        self.rules = {n: r for n, r in items(program, RULES).items() if n.split(".")[0] in asked}
        self._terms = {name: self._term(program, rule) for name, rule in self.rules.items()}
        self._reads = {name: _read(program, rule) for name, rule in self.rules.items()}

    def _term(self, program: ir.Program, rule: ir.Predicate) -> z3.BoolRef:
        terms = self._machine.terms
        return terms.truth(Evaluator(program, terms).pure(rule.condition, self._machine.state))

    def telling(self, mutant: Mutant) -> Iterator[Entry]:
        """A VMCS that only the right rule accepts, and one that only the faulty one accepts, as far as there are."""
        program = mutated(self._program, mutant)
        wrong_rule = items(program, RULES)[mutant.name]
        right, wrong = self._terms[mutant.name], self._term(program, wrong_rule)
        read = sorted(self._reads[mutant.name] | _read(program, wrong_rule))
        solver = self._solver(mutant.name, read)
        for is_accepted in (False, True):
            solver.push()
            solver.add(right == is_accepted, wrong != is_accepted)
            entry = self._found(solver, read, is_accepted)
            solver.pop()
            if entry is not None:
                yield entry

    def _solver(self, name: str, read: list[str]) -> z3.Solver:
        """All rules but this one hold, of a VMCS that has other values than the base in what is read alone.

        Rules that read nothing of it hold as they do of the base.
        """
        concerned = {n: own for n, own in self._reads.items() if n != name and not own.isdisjoint(read)}
        kept = set(_POINTERS).union(*concerned.values()).difference(read) & self._base.keys()
        register = self._machine.register
        solver = z3.SolverFor("QF_UFBV", ctx=self._machine.terms.context)
        solver.add(*(self._terms[other] for other in concerned))
        solver.add(*(register(one) == self._base[one] for one in sorted(kept)))
        solver.add(*(z3.Or(z3.ULT(register(one), MEMORY - 4), register(one) == NO_VMCS) for one in _POINTERS))
        return solver

    def _found(self, solver: z3.Solver, read: list[str], is_accepted: bool) -> Entry | None:
        for changed in (*((name,) for name in read), tuple(read)):
            others = [self._machine.register(n) == self._base[n] for n in read if n not in changed]
            if solver.check(*others) == z3.sat:
                return self._entry(solver.model(), read, is_accepted)
        return None

    def _entry(self, model: z3.ModelRef, read: list[str], is_accepted: bool) -> Entry:
        def value(term: z3.ExprRef) -> int:
            found = model.eval(term, model_completion=True)
            assert isinstance(found, z3.BitVecNumRef)
            return found.as_long()

        fields = {**self._base, **{name: value(self._machine.register(name)) for name in read}}
        places = [fields["VIRTUAL_APIC_ADDRESS"] + _TPR, *(fields["VMCS_LINK_POINTER"] + n for n in range(4))]
        places = [place for place in places if place < MEMORY]
        byte = self._machine.byte
        memory = {p: value(byte(z3.BitVecVal(p, 64, self._machine.terms.context))) for p in places}
        return Entry(fields, memory, is_accepted)


def _read(program: ir.Program, rule: ir.Predicate) -> set[str]:
    bodies = [rule.condition, *(f.body for f in reachable_functions(program, [rule.condition]))]
    return {node.name for body in bodies for node in nodes(body) if isinstance(node, ir.Read)}
