"""Which memory the processor writes for a guest besides what its translations lead to: none.

A VM exit can store MSRs, and the processor what the guest is told of an EPT violation, at host-physical addresses that
stand in the VMCS: nothing translates them. With the VMCS that the VMM builds, the cycle of a guest, VM exits and VM
entries leave memory as it is, but for what goes through `translate` (`isolation.translate`). Instructions, accesses to
memory and the delivery of events are left open here; that instructions change neither the VMCS nor memory otherwise is
`trap.….I`.
"""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import cast

from checks.host_state.handlers import EXIT_FUNCTION
from checks.host_state.promises import mode_of
from checks.symbolic.evaluate import Evaluator, Override
from checks.symbolic.memory import BYTE
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Record, Value, equal, fresh
from checks.theorem import Goal
from checks.totality.entries import ENTRY
from checks.totality.exits import Cycle, Exiting
from checks.totality.havoc import EXECUTE, Havoc, any_state, written_by_instructions
from checks.totality.open_run import KIND, MEMORY, OpenRun
from checks.trap.contract import LOADS, STORES, VM_EXIT
from grammar import ir

WRITING = ("cycle", EXIT_FUNCTION, ENTRY, "ept_violation")
"""What the processor does around a guest's instructions, and what says that the guest may be told of an EPT violation:
see `spec/cpu/cycle.isa` and `spec/vmx/`.
"""

DELIVER = "deliver_event"

IS_UNWRITTEN, IS_NOT_TOLD = "memory is as before", "no violation is for the guest"
"""The claims."""

CONVERTIBLE = "convertible"
"""The field of a VM exit that says it may become a virtualization exception."""


def memory_goal(exiting: Exiting, function: ir.Function, name: str, terms: Terms) -> Goal:
    """However the function ends, no memory has changed."""
    program = exiting.program
    havoc = Havoc(program, terms, exiting.aborts)
    overrides: dict[str, Override] = dict.fromkeys({*LOADS, *STORES, DELIVER} - {function.source}, havoc.call)
    instruction = partial(_instruction, havoc, exiting.built.constants)
    machine = Cycle(program, terms, overrides=overrides, instruction=instruction)
    start = any_state(program, terms, exiting.built)
    start.set(mode_of(program), value=function.name != ENTRY)
    machine.touched.names.add(mode_of(program))
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    arguments = tuple(fresh(terms, p.name, p.type) for p in function.parameters)
    machine.call(function, arguments, cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, arguments, start, havoc, exits, (machine,))
    claims = {
        IS_UNWRITTEN: terms.conjunction(
            terms.implies(end.condition, _is_same(terms, start, end.state)) for end in exits
        ),
        IS_NOT_TOLD: terms.conjunction(
            terms.implies(end.condition, _is_not_told(terms, end.value))
            for end in exits
            if end.kind == VM_EXIT
        ),
    }
    # What is left open tells nothing either: it is `ept_violation` that does.
    raised = (one for call in havoc.calls for one in call.raises if one.kind == VM_EXIT)
    assumed = [*havoc.assumed, *(_is_not_told(terms, one.value) for one in raised)]
    summary = f"{function.name} changes memory that no translation leads to"
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        tuple(terms.truth(one) for one in assumed),
        run.witnesses(),
        run.minimise,
        partial(run.broken, KIND, name, claims, summary, function.span),
    )


def _is_not_told(terms: Terms, event: Value | None) -> Truth:
    return terms.negation(cast(Truth, cast(Record, event).field(CONVERTIBLE)))


def _instruction(
    havoc: Havoc, constants: Container[str], machine: Evaluator, cursor: Cursor, exits: Exits
) -> None:
    """What an instruction of a guest may do: it leaves the fields of the VMCS that are always the same."""
    call, written = havoc.begin(EXECUTE, cursor), written_by_instructions(havoc.program)
    havoc.write(call, (name for name in written if name not in constants), cursor)
    havoc.raise_any(call, machine, havoc.program.aborts, cursor, exits)


def _is_same(terms: Terms, before: State, after: State) -> Truth:
    """Whether memory is the same: a byte at any address."""
    old, new = before.elements(MEMORY), after.elements(MEMORY)
    if old is new:
        return True
    point = (terms.symbol("address", 64),)
    return equal(terms, new.read(point), old.read(point), BYTE)
