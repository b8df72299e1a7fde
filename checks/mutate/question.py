"""Asks one solver in which mutants some conditions are satisfiable together.

All mutants' choices are in the conditions, and at most one is made. What the solver learns about one mutant it knows
for the next, and of one goal for the next. A model for one mutant is tried on the others, which costs no search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import z3
from z3 import z3core

from checks.mutate.choices import Choices, Chooser, choice, conjuncts
from checks.solvers.answer import Limits
from checks.solvers.terms import TermSolver

LIMITS = Limits(first_rlimit=3_000_000, second_rlimit=20_000_000, seconds=600.0)
"""For what is asked about one mutant."""

MANY_RLIMIT = 500_000
"""For the question about all mutants at once; what it leaves open is asked of each."""

_NUMBER_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Reply:
    """What the solver says.

    Of `sat` the model, and the mutant. Of `unsat` the places of the conditions that contradict each other, and of the
    original the mutants that they may not contradict each other in.
    """

    verdict: str
    model: z3.ModelRef | None = None
    number: int | None = None
    core: frozenset[int] = frozenset()
    concerned: frozenset[int] = frozenset()


@dataclass(slots=True)
class Asker:
    """The solver of one context: each condition has a name, by which questions take it in."""

    choices: Choices
    fault: z3.BitVecRef = field(init=False)
    _solver: z3.Solver = field(init=False)
    _names: dict[int, z3.BoolRef] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)
    _asked: int = 0

    def __post_init__(self) -> None:
        context = self.choices.context
        self.fault = z3.BitVec("the fault", _NUMBER_WIDTH, context)
        self._solver = z3.SimpleSolver(ctx=context)
        self._solver.set("timeout", int(LIMITS.seconds * 1000))

    def question(self, terms: Sequence[z3.BoolRef]) -> Question:
        """The question about these conditions."""
        met = self.choices.met(terms)
        for number in sorted(met - self._known):
            self._solver.add(choice(self.choices.context, number) == (self.fault == number))
        self._known |= met
        return Question(self, list(terms), met, [self._name(term) for term in terms])

    def either(self, conditions: Sequence[z3.BoolRef]) -> z3.BoolRef:
        """A new name for the condition that one of some holds."""
        self._asked += 1
        name = z3.Bool(f"asked.{self._asked}", self.choices.context)
        self._solver.add(z3.Implies(name, z3.Or(*conditions) if len(conditions) > 1 else conditions[0]))
        return name

    def check(
        self, literals: Sequence[z3.BoolRef], rlimit: int
    ) -> tuple[str, frozenset[int], z3.ModelRef | None]:
        """The verdict; of `unsat` the places of the literals that contradict each other, of `sat` a model."""
        self._solver.set("rlimit", rlimit)
        verdict = str(_check(self._solver, literals))
        if verdict == "sat":
            return verdict, frozenset(), self._solver.model()
        used = {one.get_id() for one in self._solver.unsat_core()} if verdict == "unsat" else set()
        return verdict, frozenset(i for i, one in enumerate(literals) if one.get_id() in used), None

    def _name(self, term: z3.BoolRef) -> z3.BoolRef:
        name = self._names.get(term.get_id())
        if name is None:
            name = self._names[term.get_id()] = z3.Bool(f"part.{len(self._names)}", self.choices.context)
            self._solver.add(z3.Implies(name, term))  # which keeps the term, and so its id
        return name


def _check(solver: z3.Solver, literals: Sequence[z3.BoolRef]) -> z3.CheckSatResult:
    """What `solver.check` says, which looks at the sort of each literal: there are hundreds, and many questions."""
    array = (z3core.Ast * len(literals))(*(one.as_ast() for one in literals))
    found = z3core.Z3_solver_check_assumptions(solver.ctx.ref(), solver.solver, len(literals), array)
    return z3.CheckSatResult(found)


@dataclass(slots=True)
class Question:
    """Some conditions, one by one, with the mutants that are met in them."""

    asker: Asker
    terms: list[z3.BoolRef]
    met: set[int]
    names: list[z3.BoolRef]

    def original(self) -> Reply:
        """Whether all conditions are satisfiable where no choice is made; of `unsat` also whose choice matters."""
        numbers = sorted(self.met)
        refused = [z3.Not(self._choice(n)) for n in numbers]
        verdict, core, model = self.asker.check([*self.names, *refused], LIMITS.first_rlimit)
        if verdict == "unknown":
            return self._alone(None)
        first = len(self.names)
        places = frozenset(i for i in core if i < first)
        return Reply(verdict, model, None, places, frozenset(numbers[i - first] for i in core if i >= first))

    def of(self, number: int) -> Reply:
        """Whether all conditions are satisfiable in the mutant.

        What the solver leaves open is asked again of one that sees nothing of the other mutants.
        """
        verdict, core, model = self.asker.check([*self.names, self._choice(number)], LIMITS.first_rlimit)
        if verdict == "unknown":
            return self._alone(number)
        return Reply(verdict, model, number, core - {len(self.names)})

    def of_some(self, numbers: set[int], places: Iterable[int]) -> Reply:
        """Whether the conditions at these places are satisfiable in any of some mutants."""
        here = self.asker.either([self._choice(n) for n in sorted(numbers)])
        verdict, _, model = self.asker.check([here, *(self.names[i] for i in sorted(places))], MANY_RLIMIT)
        if model is None:
            return Reply(verdict)
        return Reply(verdict, model, model.eval(self.asker.fault, model_completion=True).as_long())

    def others(self, reply: Reply, numbers: Iterable[int]) -> Iterator[int]:
        """Those of some mutants in which a model satisfies all conditions too."""
        assert reply.model is not None
        whole = self._whole()
        made = reply.number
        for number in sorted(self.met.intersection(numbers)):
            if made is not None:
                reply.model.update_value(self._choice(made), self._truth(False))
            reply.model.update_value(self._choice(number), self._truth(True))
            made = number
            if z3.is_true(reply.model.eval(whole, model_completion=True)):
                yield number

    def _whole(self) -> z3.BoolRef:
        return z3.And(*self.terms) if len(self.terms) > 1 else self.terms[0]

    def _choice(self, number: int) -> z3.BoolRef:
        return choice(self.asker.choices.context, number)

    def _truth(self, value: bool) -> z3.BoolRef:
        return z3.BoolVal(value, self.asker.choices.context)

    def _alone(self, number: int | None) -> Reply:
        """What a solver says that is given the conditions as they are in the mutant."""
        chooser = Chooser(self.asker.choices.context, sorted(self.met))
        solver = TermSolver(self.asker.choices.context, [])
        answer, used = solver.check(list(conjuncts(chooser.made(self._whole(), number))), LIMITS)
        model = used.model() if answer.verdict == "sat" else None
        return Reply(answer.verdict, model, number, frozenset(range(len(self.terms))), frozenset(self.met))
