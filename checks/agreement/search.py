"""Asks the solver for a start state that takes a given path, where no random state did."""

from __future__ import annotations

from enum import Enum, auto

import z3

from checks.agreement.forms import PROBE, FormTerms, Path
from checks.agreement.start import Found
from checks.agreement.values import Point

EFFORT = 2_000_000
"""The solver's `rlimit` for one path."""


class Nothing(Enum):
    """Why there is no state: the solver proved that there is none, or could not say."""

    UNREACHABLE = auto()
    UNDECIDED = auto()


class Search:
    """Finds start states for one form."""

    def __init__(self, terms: FormTerms) -> None:
        self._terms = terms
        self._solver = z3.SimpleSolver(ctx=terms.paths[0].term.ctx)  # keeps what it learned of one path
        self._solver.set("rlimit", EFFORT)
        self._solver.add(*terms.hypotheses)

    def start(self, path: Path) -> Found | Nothing:
        """What makes the form take a path."""
        answer = self._solver.check(path.term)
        if answer == z3.sat:
            return self._found(self._solver.model())
        return Nothing.UNDECIDED if answer == z3.unknown else Nothing.UNREACHABLE

    def _found(self, model: z3.ModelRef) -> Found:
        """The model's constants, and its functions at the points at which the terms look them up."""
        compiled, found, known = self._terms.compiled, Found(), {one.name(): one for one in model.decls()}
        constants = {}
        for name in compiled.constants:
            constants[name] = _value(model[known[name]]) if name in known else 0
        functions = {name: _Function(name, found) for name in compiled.functions}
        for name in functions.keys() & known.keys():
            functions[name].take(model[known[name]])
        compiled.evaluate(constants, functions)
        found.constants.update((n, v) for n, v in constants.items() if not n.startswith(PROBE))
        return found


class _Function:
    """A function of a model, that notes at what points it is called."""

    def __init__(self, name: str, found: Found) -> None:
        self._name, self._found = name, found
        self._entries: dict[Point, int] = {}
        self._otherwise = 0

    def take(self, meaning: z3.FuncInterp) -> None:
        """Makes the function that of a model."""
        self._otherwise = _value(meaning.else_value())
        for number in range(meaning.num_entries()):
            entry = meaning.entry(number)
            point = tuple([_value(entry.arg_value(n)) for n in range(entry.num_args())])
            self._entries[point] = _value(entry.value())

    def __call__(self, *point: int) -> int:
        value = self._found.given[self._name, point] = self._entries.get(point, self._otherwise)
        return value


def _value(value: z3.ExprRef) -> int:
    return bool(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())
