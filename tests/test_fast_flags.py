"""Flags that nothing looks at, and branches that are done with the instruction before them: straight lines of
instructions leave the same state when they run at once, which skips such flags, and one by one, which cannot.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import z3
from integer_cases import CODE, STATUS_FLAGS, Cases, flat_machine

from checks.fast.effects import claims
from checks.fast.start import Start
from fastmodel import FastEngine
from fastmodel.backends import NativeBackend, choose
from fastmodel.compiler.primitives import field
from fastmodel.decoded import CODE as ROUTINE
from fastmodel.decoded import DECODED_SIZE
from fastmodel.handlers import HANDLERS
from fastmodel.handlers.registry import CHANGED, KEPT, REPLACED, SEEN
from fastmodel.loop import known_trace
from refmodel.encoder import Encoder
from refmodel.forms import Form, forms
from refmodel.model import Model
from refmodel.operands import Memory

pytest.importorskip("llvmlite")

LINES, LENGTH = 150, 14
HALT = b"\xf4"
USERS = ("SETB", "SETLE", "ADC", "SBB", "CMOVS", "LAHF", "CMC")


def register_forms(model: Model) -> list[Form]:
    """Forms of what says something of flags, and of some instructions that look at them."""
    names = {handler.instruction for handler in HANDLERS if handler.flags != SEEN} | set(USERS)
    return [form for form in forms(model.program) if form.instruction.name in names]


def line(cases: Cases, wanted: list[Form]) -> bytes:
    """Instructions, a quarter of them followed by a conditional branch over the next; some access memory, and fault."""
    source, parts = cases.source, [b""]
    while len(parts) < LENGTH:
        case = cases.case(source.choice(wanted))
        if any(isinstance(o, Memory) for o in case.operands.values()) and source.random() < 0.8:
            continue
        if source.random() < 0.25:
            parts.append(bytes((0x70 | source.randrange(16), len(case.code))))
        parts.append(case.code)
    return b"".join(parts) + HALT


def observe(m: Any) -> dict[str, Any]:
    return {"GPR": list(m.GPR), "RIP": m.RIP, "RFLAGS": m.RFLAGS}


def test_a_line_at_once_and_one_by_one(model: Model) -> None:
    cases = Cases(Encoder(model.program), random.Random(11))
    wanted = register_forms(model)
    machines = [flat_machine(model) for _ in range(2)]
    engines = [FastEngine(model.program, m, translates=False) for m in machines]
    variants = set[int]()
    for _ in range(LINES):
        code, registers = line(cases, wanted), [cases.number() for _ in range(16)]
        flags = 2 | cases.source.getrandbits(12) & STATUS_FLAGS
        for m in machines:
            m.PHYSICAL.write_bytes(CODE, code)
            m.GPR[:] = registers
            m.RIP, m.RFLAGS = CODE, flags
        at_once, one_by_one = engines
        done = at_once.run(100)
        assert sum(iter(one_by_one.execute_one, False)) == done
        assert observe(machines[0]) == observe(machines[1]), code.hex()
        variants |= routines_at(at_once)
    assert_variants(variants)


def routines_at(engine: FastEngine) -> set[int]:
    """The routines of the trace at CODE, if that is kept."""
    [block] = engine._blocks.values()
    place = known_trace(block.address, CODE)
    if place == 0:
        return set()
    return {field(64, place + n * DECODED_SIZE + ROUTINE) for n in range(LENGTH)}


def assert_variants(found: set[int]) -> None:
    """Most of the routines for special places were among those that ran."""
    backend = choose(None)
    assert isinstance(backend, NativeBackend)
    plain = {"refuse", "end_of_trace", *(handler.name for handler in HANDLERS)}
    special = {code for name, code in backend.codes.items() if name not in plain}
    assert len(special & found) > len(special) // 4


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("ADC 64,64 rr", REPLACED),
        ("ADC 64,64 rr", CHANGED),
        ("SHL 32,8 rr", REPLACED),
        ("INC 64 r", REPLACED),
        ("INC 64 r", KEPT),
        ("PUSH 64 r", KEPT),
        ("SETB 8 r", KEPT),
    ],
)
def test_wrong_declarations_are_refuted(model: Model, name: str, effect: int) -> None:
    start = Start.create(model.program, z3.Context())
    handler = next(h for h in HANDLERS if h.name == name.replace("SETB", "SET{cc}"))
    claim = start.terms.conjunction(claims(start, replace(handler, flags=effect)))
    solver = z3.Solver(ctx=start.terms.context)
    solver.add(z3.Not(start.terms.truth(claim)))
    assert solver.check() == z3.sat
