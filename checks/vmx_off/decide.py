"""Whether an instruction form is sensitive and unprivileged: it does not trap, and does not commute with the map.

The map takes the virtual machine to the processor that runs its code (`checks.vmx_off.machines`). An instruction is
harmless if on the processor it faults, so that the VMM can do its work, or if it does to the programs' registers and to
memory what it would do in the virtual machine, and nothing to any other register of either.

Source: Popek and Goldberg's homomorphism, CACM 17(7), 1974; J. S. Robin, C. E. Irvine, "Analysis of the Intel Pentium's
Ability to Support a Secure Virtual Machine Monitor", USENIX Security 2000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import z3

from checks.matrix.asker import Asker
from checks.symbolic.memory import BYTE
from checks.symbolic.state import State
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, equal, fresh, width_of
from checks.trap.contract import LINEAR
from checks.trap.forms import Form
from checks.trap.operands import OperandSymbols
from checks.trap.ownership import Ownership
from checks.trap.runs import LINEAR_WIDTH, Run, Settings
from checks.trap.subject import act_of
from checks.vmx_off.machines import Features, assumptions, machines, shared_mask
from grammar import ir

TRAPS = "a trap"
"""What is missing where the virtual machine faults and the processor does not."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the map wants equal; `name` is the register, or `TRAPS`."""

    name: str
    is_equal: Truth


def differences(form: Form, settings: Settings, asker: Asker) -> list[str]:
    """What does not commute, without a trap: the registers, `LINEAR` memory, or a trap.  Raises UndecidedError."""
    symbols = OperandSymbols.of(settings, form)
    act = act_of(form.body.body, symbols)
    real, virtual = settings.run(settings.first, act), settings.run(settings.second, act)
    terms = settings.terms
    runs = [terms.truth(one) for one in (*symbols.hypotheses(), real.completes)]
    if not asker.can(*runs):
        return []
    both = [*runs, terms.truth(virtual.completes)]
    found = [TRAPS] if asker.can(*runs, terms.truth(terms.negation(virtual.completes))) else []
    wrong: dict[str, list[z3.BoolRef]] = {}
    for one in _compared(settings, real, virtual):
        if one.is_equal is not True:
            wrong.setdefault(one.name, []).append(terms.truth(terms.negation(one.is_equal)))
    return found + [name for name, any_of in wrong.items() if asker.can(*both, z3.Or(*any_of))]


def completes(form: Form, settings: Settings, asker: Asker) -> bool:
    """Whether the form can complete on the processor, without a trap.  Raises UndecidedError."""
    symbols = OperandSymbols.of(settings, form)
    real = settings.run(settings.first, act_of(form.body.body, symbols))
    return asker.can(*(settings.terms.truth(one) for one in (*symbols.hypotheses(), real.completes)))


def group(ownership: Ownership, features: Features) -> tuple[Settings, Asker]:
    """The machines in a context of their own."""
    settings = machines(ownership, z3.Context())
    assumed = [settings.terms.truth(one) for one in assumptions(settings, features) if one is not True]
    return settings, Asker(settings.terms.context, assumed)


def _compared(settings: Settings, real: Run, virtual: Run) -> Iterator[Difference]:
    """All that either run changed."""
    terms, program = settings.terms, settings.program
    for name in sorted({*real.completed.changed, *virtual.completed.changed}):
        if name in program.state:
            variable = program.state[name]
            point = tuple(fresh(terms, f"{name}.{p.name}", p.type) for p in variable.indices)
            yield Difference(name, _is_kept(settings, variable, point, real, virtual))
        elif name == LINEAR:
            point = (terms.symbol("LINEAR.address", LINEAR_WIDTH),)
            a, b = (run.completed.elements(LINEAR).read(point) for run in (real, virtual))
            yield Difference(name, equal(terms, a, b, BYTE))


def _is_kept(settings: Settings, variable: ir.StateVariable, point: Point, real: Run, virtual: Run) -> Truth:
    """What programs share is the same after both runs, all else as it was before each."""
    terms, width = settings.terms, width_of(variable.type)
    mask = shared_mask(terms, variable, point)
    rest = terms.complement(mask, width)
    after = [_value(settings, run.completed, variable, point) for run in (real, virtual)]
    before = [_value(settings, run.start, variable, point) for run in (real, virtual)]
    pairs = [(after[0], after[1], mask), *((a, b, rest) for a, b in zip(before, after, strict=True))]
    return terms.conjunction(
        terms.equal(terms.arithmetic("&", a, bits, width), terms.arithmetic("&", b, bits, width), width)
        for a, b, bits in pairs
    )


def _value(settings: Settings, state: State, variable: ir.StateVariable, point: Point) -> Vector:
    """The value; a bool counts as one bit."""
    value = state.elements(variable.name).read(point) if point else state.get(variable.name)
    if isinstance(variable.type, ir.Bool):
        return settings.terms.as_vector(cast(Truth, value))
    return cast(Vector, value)
