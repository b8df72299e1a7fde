"""The symbolic back end and the reference do the same: random states go through both, for every instruction."""

from dataclasses import replace
from functools import cache
from random import Random

import pytest
import z3

import grammar
from checks.agreement.compare import Comparison
from checks.agreement.compiled import compiled
from checks.agreement.start import random_value
from checks.cli import main
from checks.mutate.places import mutants, mutated
from checks.symbolic.folding import signed
from checks.symbolic.terms import Terms
from checks.trap.forms import Form
from refmodel.model import build

PROGRAM = grammar.load()
BLOCKS = sorted({i.family or i.name for i in PROGRAM.instructions.values()})
STATES = 20


@cache
def forms_by_block() -> dict[str, list[Form]]:
    found: dict[str, list[Form]] = {}
    for form in comparison().forms():
        found.setdefault(form.instruction.family or form.instruction.name, []).append(form)
    return found


@cache
def comparison() -> Comparison:
    return Comparison(build(PROGRAM))


@pytest.mark.parametrize("block", BLOCKS)
def test_random_states_agree(block: str) -> None:
    """One form of each block here; `nonroot check --agreement` compares all."""
    form = Random(block).choice(forms_by_block()[block])
    found = comparison().compare(form, STATES)
    assert (found.difference, found.missing) == ("", "")
    assert found.ends.total() == STATES


@pytest.mark.parametrize(
    ("item", "operator", "description", "seen"),
    [
        ("CLTS", "drop exit", "", "ends with"),
        ("CLTS", "other member", "LMSW_ACCESS", "qualification is"),
        ("CLTS", "omit field TS", "", "CR0 is"),
        ("SAHF", "set control", "flags.PF", "RFLAGS is"),
        ("XCHG", "drop write", "destination", "GPR["),
        ("STOS", "drop write", "", "LINEAR["),
        ("LEAVE", "off by one", "", "GPR["),
    ],
)
def test_a_fault_in_one_back_end_is_seen(item: str, operator: str, description: str, seen: str) -> None:
    """The terms are those of a specification with a fault, the reference is that of the one without."""
    changed = mutated(
        PROGRAM,
        next(
            m
            for m in mutants(PROGRAM)
            if (m.name, m.operator) == (item, operator) and description in m.description
        ),
    )
    form = forms_by_block()[item][0]
    body = changed.instructions[form.instruction.name].body(form.body.widths)
    faulty = comparison().with_terms_of(changed)
    assert seen in faulty.compare(replace(form, body=body), 400).difference


def test_compiled_terms_have_the_solvers_values() -> None:
    """Every operator, against z3's own simplifier."""
    context, chance = z3.Context(), Random(1)
    a, b, c = (z3.BitVec(name, 6, context) for name in "abc")
    p = z3.Bool("p", context)
    f = z3.Function("f", a.sort(), b.sort(), a.sort())
    terms = [
        *(a + b, a - b, a * b, a & b, a | b, a ^ b, ~a, -a, a << b, a >> b, z3.LShR(a, b)),
        *(z3.UDiv(a, b), z3.URem(a, b), z3.Concat(a, b, c), z3.Extract(4, 2, a)),
        *(z3.ZeroExt(3, a), z3.SignExt(3, a), z3.If(p, a, b), f(a, f(b, c))),
        *(z3.ULT(a, b), z3.ULE(a, b), z3.UGT(a, b), z3.UGE(a, b), a < b, a <= b, a > b, a >= b),
        *(
            z3.And(p, a == b),
            z3.Or(p, a == b),
            z3.Xor(p, a == b),
            z3.Implies(p, a == b),
            z3.Not(p),
            p == (a == b),
        ),
    ]
    evaluate = compiled(terms)
    for _ in range(200):
        x, y, z = (random_value(chance, 6) for _ in range(3))
        values = evaluate({"a": x, "b": y, "c": z, "p": bool(x & 1)}, {"f": lambda m, n: (3 * m + n) & 63})
        numbers = [z3.BitVecVal(n, 6, context) for n in (x, y, z)]
        known = [(s, n) for s, n in zip((a, b, c), numbers, strict=True)] + [
            (p, z3.BoolVal(bool(x & 1), context))
        ]
        meaning = (f, 3 * z3.Var(0, a.sort()) + z3.Var(1, b.sort()))
        for term, value in zip(terms, values, strict=True):
            wanted = z3.simplify(z3.substitute_funs(z3.substitute(term, *known), meaning))
            assert int(value) == (int(z3.is_true(wanted)) if z3.is_bool(term) else wanted.as_long()), term


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--agreement", "0"]) == 2
    assert "above 0" in capsys.readouterr().err


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
