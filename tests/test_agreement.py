"""The symbolic back end and the reference do the same: random states go through both, for every instruction."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
import z3

import grammar
from checks.agreement.compare import Agreement, Comparison
from checks.agreement.compiled import compiled
from checks.agreement.report import Results, problems
from checks.agreement.values import Values
from checks.cli import main
from checks.mutate.places import mutants, mutated
from checks.symbolic.folding import signed
from checks.symbolic.terms import Terms
from checks.trap.forms import Form
from grammar import ir
from refmodel.model import build

PROGRAM = grammar.load()
STATES = 2000
"""Of each instruction.  The seed is always the same: a failure is one of the change at hand, and comes again."""


@cache
def comparison() -> Comparison:
    return Comparison(build(PROGRAM))


def forms_of_block(name: str) -> list[Form]:
    forms = (form for forms in comparison().forms().values() for form in forms)
    return [form for form in forms if name in (form.instruction.family, form.instruction.name)]


def form_of(instruction: str) -> Form:
    return comparison().forms()[instruction][0]


@pytest.mark.parametrize("instruction", sorted(PROGRAM.instructions))
def test_random_states_agree(instruction: str) -> None:
    """Every form; and each path to an end is taken by a state, or proved to be taken by none."""
    forms = comparison().forms()[instruction]
    found = [comparison().compare(form, -(-STATES // len(forms))) for form in forms]
    assert [line for one in found for line in problems(one)] == []
    assert sum(one.ends.total() for one in found) >= STATES


@pytest.mark.parametrize(
    ("item", "operator", "description", "seen"),
    [
        ("CLTS", "drop exit", "", "ends with"),
        ("CLTS", "other member", "LMSW_ACCESS", "qualification is"),
        ("CLTS", "omit field TS", "", "CR0 is"),
        ("SAHF", "set control", "flags.PF", "RFLAGS is"),
        ("XCHG", "drop write", "destination", "GPR["),
        ("STOS", "drop write", "", "ends with"),
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
    form = forms_of_block(item)[0]
    body = changed.instructions[form.instruction.name].body(form.body.widths)
    faulty = comparison().with_terms_of(changed)
    assert seen in faulty.compare(replace(form, body=body), 400).difference


def with_statements(form: Form, *statements: ir.Stmt) -> Form:
    """The form with something at its end, in the terms alone."""
    return replace(form, body=replace(form.body, body=(*form.body.body, *statements)))


def if_rax_is(value: int, *then: ir.Stmt) -> ir.If:
    """A statement for states in which the low bits of RAX, as many as the value has, are those of the value."""
    rax = next(v for v in PROGRAM.state.values() if v.name == "GPR")
    width = value.bit_length()
    read = ir.Read(rax.type, "GPR", (ir.Literal(rax.indices[0].type, 0),))
    low = ir.Slice(ir.Bits(width), read, width - 1, 0)
    is_value = ir.Binary(ir.BOOL, "==", low, ir.Literal(ir.Bits(width), value))
    return ir.If(PROGRAM.instructions["CLAC"].span, is_value, then, ())


def test_a_fault_in_one_of_a_thousand_states_is_seen() -> None:
    form = form_of("SAHF")
    (write,) = (s for s in form.body.body if isinstance(s, ir.WriteState))
    seldom = if_rax_is(0x1A5, replace(write, value=ir.Literal(write.value.type, 0)))
    found = comparison().compare(with_statements(form, seldom), STATES)
    assert "RFLAGS is 0x0" in found.difference
    assert 200 < found.ends.total() <= STATES


def test_a_fault_that_no_random_state_shows_is_seen() -> None:
    """The solver finds the state in which the terms have an end that the reference has not."""
    form = form_of("SAHF")
    check = form_of("CLAC").body.body[0]
    assert isinstance(check, ir.If)
    seldom = if_rax_is(0x8B6D_0F3A_5C21_9E47, *check.then, *check.otherwise)
    found = comparison().compare(with_statements(form, seldom), STATES)
    assert found.searched == 1
    assert found.difference == "ends with Fault, on the reference with completes"


def test_a_write_of_the_terms_alone_is_seen() -> None:
    form, byte = form_of("SAHF"), ir.Literal(ir.Bits(8), 0x5A)
    address = ir.Literal(PROGRAM.memories["PHYSICAL"].address, 0x1234)
    write = ir.WriteMemory(form.instruction.span, "PHYSICAL", address, byte)
    found = comparison().compare(with_statements(form, write), STATES)
    assert "PHYSICAL[0x1234] is 0x5a" in found.difference


def test_another_byte_in_memory_is_seen() -> None:
    (form,) = (f for f in comparison().forms()["MOV"] if f.name == "MOV/m64,r64")
    *before, last = form.body.body
    assert isinstance(last, ir.WriteOperand)
    flipped = ir.Binary(last.value.type, "^", last.value, ir.Literal(last.value.type, 1 << 40))
    body = replace(form.body, body=(*before, replace(last, value=flipped)))
    assert "LINEAR[" in comparison().compare(replace(form, body=body), STATES).difference


def test_compiled_terms_have_the_solvers_values() -> None:
    """Every operator, against z3's own simplifier."""
    context, chance, draw = z3.Context(), Random(1), Values(1).draw
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
    evaluate = compiled(terms).evaluate
    for _ in range(200):
        x, y, z = (draw(chance, 6) for _ in range(3))
        values = evaluate({"a": x, "b": y, "c": z, "p": bool(x & 1)}, {"f": lambda m, n: (3 * m + n) & 63})
        numbers = [z3.BitVecVal(n, 6, context) for n in (x, y, z)]
        known = [(s, n) for s, n in zip((a, b, c), numbers, strict=True)] + [
            (p, z3.BoolVal(bool(x & 1), context))
        ]
        meaning = (f, 3 * z3.Var(0, a.sort()) + z3.Var(1, b.sort()))
        for term, value in zip(terms, values, strict=True):
            wanted = z3.simplify(z3.substitute_funs(z3.substitute(term, *known), meaning))
            assert int(value) == (int(z3.is_true(wanted)) if z3.is_bool(term) else wanted.as_long()), term


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [comparison().forms()[name] for name in ("CLTS", "RDPMC")]
    monkeypatch.setattr(Comparison, "forms", lambda _: {one[0].instruction.name: one for one in forms})
    file = tmp_path / "agreement.json"
    assert main(["check", "--agreement", "100", "--seed", "3", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "2 forms of 2 instructions in" in shown
    assert "0 forms differ, 0 not compared" in shown
    document = json.loads(file.read_text())
    assert (document["schema_version"], document["seed"], document["differences"]) == (1, 3, [])
    assert document["states"] == sum(document["ends"].values()) >= 200
    (clts, _) = document["forms"]
    assert {"completes", "Fault 13", "VmExit CR_ACCESS"} <= set(clts["ends"])
    assert clts["paths"] >= 3


def test_status_of_results() -> None:
    results = Results(0)
    results.add(Agreement("CLTS"), "CLTS")
    assert results.status == 0
    results.add(Agreement("HLT", undecided=["Fault 13"]), "HLT")
    assert results.status == 3
    results.add(Agreement("NOP", difference="RIP is 0x1, on the reference 0x2"), "NOP")
    assert results.status == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--agreement", "0"], "above 0"), (["--json", "file"], "--json is for --agreement")],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


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
