"""Sends random states through both back ends and says where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from random import Random

from checks.agreement.differences import Differences, Probes
from checks.agreement.forms import PROBE, Forms, FormTerms
from checks.agreement.reference import After, Reference
from checks.agreement.search import Nothing, Search
from checks.agreement.start import Found, Image, Start, Starts
from checks.agreement.values import Functions, Unknowns, Values
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.values import leaves, width_of
from checks.trap.contract import FAULT, LINEAR, LOADS, STORES, contract_functions
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.unknown import zero
from checks.walk import names_in, reachable_functions
from grammar import ir
from refmodel.model import Model

IMAGES = 4
"""So many machines are made for a form; its states differ little from one of them."""
NEARBY = 8
"""So many states are tried around one that the solver found."""

REPLACED = frozenset({*LOADS, *STORES})
"""Functions that neither side runs."""


@dataclass(slots=True)
class Agreement:
    """What was found about one form.

    `ends` says how many states reached each end. Of the form's `paths` to them random states took all but `searched`,
    which the solver found a state for, `unreachable`, which it proved that there is none for, and `undecided`.
    `difference` is the first difference, if there is one; `missing` says why a form could not be compared.
    """

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    paths: int = 0
    searched: int = 0
    unreachable: int = 0
    undecided: list[str] = field(default_factory=list)
    difference: str = ""
    missing: str = ""


class Comparison:
    """Compares forms of one program; `model` is its reference, which the comparison takes for itself."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.program, self.seed = model.program, seed
        values = Values(seed)
        self.unknowns = Unknowns(values, _widths(model.program))
        self.reference, self.starts = Reference(model, self.unknowns), Starts(model, values)
        self.functions = Functions(self.unknowns)
        self._latest: tuple[str, Forms] | None = None

    def with_terms_of(self, program: ir.Program) -> Comparison:
        """Compares the terms of another program with the same reference."""
        other = copy(self)
        other.program, other._latest = program, None  # noqa: SLF001  one of its own
        return other

    def forms(self) -> dict[str, list[Form]]:
        """All forms by instruction."""
        return forms_by_instruction(self.program)

    def shared(self, states: int) -> Iterator[tuple[int, list[Form]]]:
        """The forms of each instruction, and how many states each gets so that the instruction has as many."""
        for forms in self.forms().values():
            yield -(-states // len(forms)), forms

    def compare(self, form: Form, states: int) -> Agreement:
        """Evaluates so many random states, and some for each path that none of them took; stops at a difference."""
        try:
            terms = self._forms_of(form.instruction.name).terms_of(form)
        except UnsupportedError as error:
            return Agreement(form.name, missing=str(error))
        return _FormComparison(self, terms).compare(states)

    def _forms_of(self, instruction: str) -> Forms:
        """The forms of an instruction share a context: to make one takes as long as to make a form's terms."""
        if self._latest is None or self._latest[0] != instruction:
            self._latest = instruction, Forms(self.program)
        return self._latest[1]


class _FormComparison:
    def __init__(self, comparison: Comparison, terms: FormTerms) -> None:
        self._comparison, self._terms = comparison, terms
        self._form = terms.form
        self._operands = comparison.reference.operands(terms.form)
        self._chance = Random(f"{comparison.seed} {terms.form.name}")
        self._differences = Differences(comparison.program, comparison.unknowns)
        self._names = comparison.starts.known(self._looked_at())
        self._widths = {name: self._index_widths(name) for name in terms.probed()}
        self._taken = Counter[int]()
        self._found = Agreement(terms.form.name, paths=len(terms.paths))

    def _looked_at(self) -> set[str]:
        """The names of what the terms or the reference look at."""
        program = self._comparison.reference.model.program
        body = program.instructions[self._form.instruction.name].body(self._form.body.widths).body
        bodies = [body, *(f.body for f in reachable_functions(program, [body], REPLACED))]
        read = set[str]().union(*(names_in(one).reads for one in bodies))
        return read | self._terms.compiled.constants

    def _index_widths(self, name: str) -> list[int]:
        variable = self._comparison.program.state.get(name)
        return [width_of(p.type) for p in variable.indices] if variable is not None else [64]

    def compare(self, states: int) -> Agreement:
        """Evaluates so many states, and those that the solver finds."""
        for start in chain(self._random(states), self._searched()):
            after = self._comparison.reference.run(self._form, self._operands, start)
            self._found.difference = "; ".join(self._compared(start, after))
            if self._found.difference:
                break
        return self._found

    def _random(self, states: int) -> Iterator[Start]:
        """So many random states."""
        starts, chance = self._comparison.starts, self._chance
        for number in range(IMAGES):
            image = self._placed()
            for _ in range(states * number // IMAGES, states * (number + 1) // IMAGES):
                yield starts.near(image, self._names, self._form, chance)

    def _searched(self) -> Iterator[Start]:
        """States for the paths that none took until now, each with some around it."""
        left = [path for path in self._terms.paths if not self._taken[path.condition]]
        if not left:
            return
        search = Search(self._terms)
        for path in left:
            if self._taken[path.condition]:
                continue  # by a state around that of another
            found = search.start(path)
            if found is Nothing.UNREACHABLE:
                self._found.unreachable += 1
                continue
            if isinstance(found, Found):
                self._found.searched += 1
                yield from self._around(found)
            if not self._taken[path.condition]:
                self._found.undecided.append(path.name)

    def _around(self, found: Found) -> Iterator[Start]:
        starts, chance = self._comparison.starts, self._chance
        start = starts.found(self._placed(), found, self._form, chance)
        yield start
        for _ in range(NEARBY):
            yield starts.beside(start, self._names, chance)

    def _placed(self) -> Image:
        image = self._comparison.starts.image(self._chance)
        self._comparison.reference.place(image)
        return image

    def _compared(self, start: Start, after: After) -> Iterator[str]:
        probes = {name: self._probe(name, start, after) for name in self._widths}
        values = self._evaluate(start, probes)
        paths = [path for path in self._terms.paths if values[path.condition]]
        if [path.kind for path in paths] != [after.kind]:
            said = " and ".join(path.kind for path in paths) or "nothing"
            yield f"ends with {said}, on the reference with {after.kind}"
            return
        self._taken[paths[0].condition] += 1
        self._found.ends[paths[0].name] += 1
        yield from self._differences.of(self._terms.ends[after.kind], values, start, after, probes)

    def _evaluate(self, start: Start, probes: Probes) -> tuple[int, ...]:
        constants, functions = start.constants(), self._comparison.functions
        for name, point in probes.items():
            for number, index in enumerate(point):
                constants[f"{PROBE}{name}.{number}"] = index
        for name, elements in start.lists.items():
            functions[name] = elements.__getitem__
        return self._terms.compiled.evaluate(constants, functions)

    def _probe(self, name: str, start: Start, after: After) -> tuple[int, ...]:
        """A point of indexed state to read: one that the reference has written, if there is one."""
        if name in start.lists:
            return (self._chance.randrange(len(start.lists[name])),)
        written = after.written.get(name)
        if written:
            point = self._chance.choice(sorted(written))
            return point if isinstance(point, tuple) else (point,)
        return tuple([self._chance.getrandbits(width) for width in self._widths[name]])


def _widths(program: ir.Program) -> dict[str, int]:
    """The widths of all that is chosen at random, by name."""
    widths = {v.name: width_of(v.type) for v in program.state.values() if not isinstance(v.type, ir.Struct)}
    widths |= dict.fromkeys([LINEAR, *program.memories], 8)
    fault = program.aborts[FAULT].type
    bits = 1 + sum(width_of(t) for _, _, t in leaves(zero(fault), fault))
    for function in contract_functions(program):
        widths |= {f"{function.name}.fault": bits, f"{function.name}.exits": 1}
    return widths
