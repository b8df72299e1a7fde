"""What the VMM makes of an interrupt of the machine that interrupts a guest: the guest may have to wait, no more.

From any state after such an exit, the handler changes nothing but who runs next: it injects nothing, and leaves the
guest's registers and VMCS as they are. A non-maskable interrupt shares its handler with exceptions; it is known by its
type in the VM-exit interruption information.  SDM 3C 25.9.2
"""

from __future__ import annotations

from functools import partial
from typing import cast

import z3

from checks.emulation.machine import BORDERS, Machine
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import equal
from checks.theorem import Counterexample, Goal, Witness
from checks.totality.entries import YIELDS
from checks.totality.exits import Exiting
from checks.totality.havoc import CALLS, any_state
from checks.trap.concrete import Concrete
from grammar import ir

INFORMATION, TYPE_BITS = "EXIT_INTERRUPTION_INFORMATION", (10, 8)
TYPES = {"EXTERNAL_INTERRUPT": 0, "EXCEPTION_OR_NMI": 2}
"""The types of the machine's interrupts, by the handler of the exits that they cause.  SDM 3C 25.9.2"""


def ignored_goal(exiting: Exiting, handler: ir.Handler, name: str, terms: Terms) -> Goal:
    """The handler changes nothing of the guest."""
    program = exiting.program
    start = any_state(program, terms, exiting.built)
    information = cast(Vector, start.get(INFORMATION))
    is_interrupt = terms.equal(terms.extract(information, *TYPE_BITS), TYPES[handler.name], 3)
    cursor = Cursor(start.copy(), {})
    Machine(program, terms, overrides=BORDERS).call(
        program.functions[f"handle_{handler.name}"], (), cursor, []
    )
    written = cursor.state.changed.keys() - start.changed.keys() - {CALLS, YIELDS}
    kept: dict[str, Truth] = {}
    for variable in (
        program.state[one] for one in sorted(written | (start.changed.keys() & program.state.keys()))
    ):
        if variable.indices:
            kept[variable.name] = False
        else:
            after, before = cursor.state.get(variable.name), start.get(variable.name)
            kept[variable.name] = equal(terms, after, before, variable.type)
    return Goal(
        name,
        terms.truth(terms.conjunction((cursor.alive, *kept.values()))),
        (terms.truth(is_interrupt),),
        (Witness("returns", terms.truth(cursor.alive)),),
        explain=partial(_changed, kept, handler),
    )


def _changed(kept: dict[str, Truth], handler: ir.Handler, model: z3.ModelRef) -> Counterexample:
    concrete = Concrete(model)
    rows = tuple((name,) for name, holds in kept.items() if not concrete.holds(holds))
    return Counterexample("a guest notices an interrupt of the machine", ("changed",), rows, handler.span)
