"""What the VMM makes of an interrupt of the machine that interrupts a guest: the guest may have to wait, no more.

From any state after such an exit, the handler changes nothing but who runs next: it injects nothing, and leaves the
guest's registers and VMCS as they are. A non-maskable interrupt shares its handler with exceptions; it is known by its
type in the VM-exit interruption information.  SDM 3C 25.9.2
"""

from __future__ import annotations

from functools import partial
from typing import cast

from checks.emulation.machine import Machine
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.terms import Terms, Vector
from checks.theorem import Goal
from checks.totality.entries import YIELDS
from checks.totality.exits import Exiting
from checks.totality.havoc import Havoc, any_state
from checks.totality.open_run import KIND, OpenRun, is_same
from grammar import ir

INFORMATION, TYPE_BITS = "EXIT_INTERRUPTION_INFORMATION", (10, 8)
TYPES = {"EXTERNAL_INTERRUPT": 0, "EXCEPTION_OR_NMI": 2}
"""The types of the machine's interrupts, by the handler of the exits that they cause.  SDM 3C 25.9.2"""

STOP = "stop_guest"
"""The function that stops a guest."""

GOES_ON, KEEPS = "the guest goes on", "the guest keeps "
"""Claims; the second is followed by the name of state."""


def ignored_goal(exiting: Exiting, handler: ir.Handler, name: str, terms: Terms) -> Goal:
    """The handler changes nothing of the guest, and does not stop it."""
    program, function = exiting.program, exiting.program.functions[f"handle_{handler.name}"]
    havoc = Havoc(program, terms, exiting.aborts)
    machine = Machine(program, terms, overrides={STOP: havoc.end})
    start = any_state(program, terms, exiting.built)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    machine.call(function, (), cursor, exits)
    claims = {GOES_ON: terms.negation(terms.disjunction(e.condition for e in exits))}
    for one in sorted(cursor.state.changed.keys() & program.state.keys() - {YIELDS}):
        claims[f"{KEEPS}{one}"] = is_same(machine, program.state[one], start, cursor.state)
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, (), start, havoc, exits, (machine,))
    information = cast(Vector, start.get(INFORMATION))
    machine.touched.names.add(INFORMATION)
    summary = "a guest notices an interrupt of the machine"
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        (terms.truth(terms.equal(terms.extract(information, *TYPE_BITS), TYPES[handler.name], 3)),),
        run.witnesses(),
        minimise=run.minimise,
        explain=partial(run.broken, KIND, name, claims, summary, handler.span),
    )
