"""The symbolic back end and the reference compute the same: random states go through both, for every instruction."""

import random
from functools import cache
from pathlib import PurePath

import pytest
import z3

import grammar
from checks.case import parse_case
from checks.symbolic.terms import Terms, signed
from checks.trap.casefile import FormExplainer
from checks.trap.compare import Comparer
from checks.trap.concrete import Concrete
from checks.trap.family import Prepared
from checks.trap.forms import Form
from checks.trap.operands import OperandSymbols
from checks.trap.replay import Player
from checks.trap.runs import Settings
from checks.trap.subject import Subject
from checks.trap.theorems import Theorem
from checks.walk import nodes, reachable_functions
from grammar import ir
from refmodel.model import Model, build

PROGRAM = grammar.load()
PREPARED = Prepared(PROGRAM)
FORMS: dict[str, list[Form]] = {}
for forms in PREPARED.groups.values():
    FORMS.setdefault(PurePath(forms[0].instruction.span.file).stem, []).extend(forms)
SAMPLES_PER_FILE = 4


@cache
def model() -> Model:
    return build(PROGRAM)


def has_undefined_results(form: Form) -> bool:
    bodies = [form.body.body, *(f.body for f in reachable_functions(PROGRAM, [form.body.body]))]
    return any(isinstance(node, ir.Undefined) for body in bodies for node in nodes(body))


def random_value(chance: random.Random, width: int) -> int:
    edges = [0, 1, (1 << width) - 1, 1 << width - 1, (1 << width - 1) - 1]
    return chance.choice([chance.getrandbits(width), chance.choice(edges), chance.getrandbits(min(width, 5))])


def random_start(settings: Settings, symbols: OperandSymbols, chance: random.Random) -> list[z3.BoolRef]:
    """Wishes for a start state, of which the solver is to keep as many as are possible together."""
    terms = settings.terms
    registers = settings.first.elements("GPR")
    wishes = [registers.read((number,)) == random_value(chance, 64) for number in range(16)]
    wishes += [z3.Extract(15, 0, settings.first.get("RFLAGS")) == chance.choice([2, 0x46, 0x893, 0x207])]
    for symbol in (*symbols.values.values(), *symbols.numbers.values()):
        if not isinstance(symbol, int):
            wishes.append(symbol == random_value(chance, symbol.size()))
    return [terms.truth(wish) for wish in wishes]


def satisfy(
    hypotheses: list[z3.BoolRef], wishes: list[z3.BoolRef], context: z3.Context
) -> z3.ModelRef | None:
    solver = z3.SimpleSolver(ctx=context)
    solver.set("timeout", 5000)
    solver.add(*hypotheses)
    if solver.check() != z3.sat:
        return None
    found = solver.model()
    for wish in wishes:
        if solver.check(wish) == z3.sat:
            found = solver.model()
            solver.add(wish)
    return found


def compare_once(form: Form, settings: Settings, chance: random.Random) -> bool:
    """Whether a random state of the form was compared; fails if the back ends differ."""
    terms = settings.terms
    subject = Subject(form, settings, Comparer(PREPARED.ownership, terms), PREPARED)
    proof, symbols = subject.proof, subject.symbols
    claim = next(claim for claim in proof.claims if claim.theorem is Theorem.EQUIVALENCE)
    run = claim.left
    hypotheses = [terms.truth(h) for h in (*proof.hypotheses, *(c for _, c in settings.promises()))]
    hypotheses += [z3.Not(terms.truth(abort)) for abort in run.aborts]
    found = satisfy(hypotheses, random_start(settings, symbols, chance), terms.context)
    if found is None:
        return False
    concrete = Concrete(found)
    document = (
        FormExplainer(settings, form.instruction.span, "test", symbols, PREPARED).explain(claim, found).case
    )
    if document is None:
        return False
    player = Player(parse_case(document), model())
    outcome = player.run(player.machine({}))
    expected = (
        "completes" if concrete.holds(run.completes) else "faults" if concrete.holds(run.faults) else "exits"
    )
    assert outcome.text.startswith(expected), (form.name, document)
    final = run.completed if expected == "completes" else run.faulted
    if expected != "exits":
        skipped = {"NEXT_RIP", "CR3", "EPT_POINTER"} | ({"RFLAGS"} if has_undefined_results(form) else set())
        for variable in PROGRAM.state_in("register"):
            if not variable.indices and variable.name not in skipped:
                mine = concrete.number(final.get(variable.name))
                assert mine == int(getattr(outcome.machine, variable.name)), (
                    form.name,
                    variable.name,
                    document,
                )
        if not has_undefined_results(form):
            touched = run.evaluator.touched.points.get("GPR", {}).values()
            for number in {concrete.number(point[0]) for point in touched}:
                mine = concrete.number(final.elements("GPR").read((number,)))
                assert mine == outcome.machine.GPR[number], (form.name, number, document)
    return True


@pytest.mark.parametrize("file", sorted(FORMS))
def test_random_states_agree_with_the_reference(file: str) -> None:
    chance = random.Random(f"symbolic {file}")
    forms = FORMS[file]
    sample = chance.sample(forms, min(SAMPLES_PER_FILE, len(forms)))
    settings = Settings.create(PREPARED.ownership, Terms(z3.Context()))
    assert sum(compare_once(form, settings, chance) for form in sample) >= len(sample) // 2


@pytest.mark.parametrize("op", ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", ">>s"])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_folding_agrees_with_z3(op: str, width: int) -> None:
    """Every pair of values: the constant that folding gives is the one that the solver's term has."""
    terms = Terms(z3.Context())
    a, b = terms.symbol("a", width), terms.symbol("b", width)
    term = terms.arithmetic(op, a, b, width)
    for x in range(1 << width):
        for y in range(1 << width):
            value = z3.simplify(z3.substitute(term, (a, terms.vector(x, width)), (b, terms.vector(y, width))))
            assert value.as_long() == terms.arithmetic(op, x, y, width), (x, op, y)
            short = terms.arithmetic(op, a, y, width)
            value = z3.simplify(z3.substitute(terms.vector(short, width), (a, terms.vector(x, width))))
            assert value.as_long() == terms.arithmetic(op, x, y, width)


def test_signed() -> None:
    assert [signed(value, 2) for value in range(4)] == [0, 1, -2, -1]
