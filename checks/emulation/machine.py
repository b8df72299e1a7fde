"""Runs the machine around one instruction: the cycle that exits, the VMM's handler, and the entry back into the guest.

All of it is specification text. What is put in its place are the borders of these theorems: the instruction at hand
where the text says `execute`, and the functions of `BORDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias, cast

import z3

from checks.symbolic.evaluate import Call, Evaluator, Override
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import Initial
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Record, Value, width_of
from checks.trap.contract import FAULT
from checks.trap.initial import Symbols
from checks.trap.unknown import Unknowns
from checks.walk import names_in, reachable_functions
from grammar import ir

SOFTWARE_INTERRUPT = 4
"""The least type of an event that an instruction asks for.  SDM 3C 25.9.2"""

WRITE_PORTS, PORTS = "write_visible_ports", "PORTS"
PORTS_WIDTH = 18
"""What a guest writes to ports, and the memory in which that is noted: four bytes for each, at addresses of 18 bits."""

REASON_WIDTH = 16
"""Bits of a basic exit reason.  SDM 3C 25.9.1"""

STOPPED = "stopped"
"""The kind of exit from a run that ends because the VMM stops the guest."""


Instruction: TypeAlias = Callable[["Machine", Cursor, Exits], None]
"""What `execute` does: the instruction on a machine."""


@dataclass(slots=True)
class Machine(Evaluator):
    """An evaluator that also executes instructions, which `instruction` does, and dispatches to handlers.

    That the rules of VM entry hold is taken for granted (docs/theorems.md).
    """

    instruction: Instruction | None = None

    def _execute(self, s: ir.Execute, cursor: Cursor, exits: Exits) -> None:  # noqa: ARG002 - one of a table
        assert self.instruction is not None
        self.instruction(self, cursor, exits)

    def _dispatch(self, s: ir.Dispatch, cursor: Cursor, exits: Exits) -> None:
        reason = cast(Vector, self.evaluate(s.reason, cursor, exits))
        possible = constants(reason)
        own = [h for h in self.program.handlers.values() if h.value is not None]
        left = [h for h in own if possible is None or h.value in possible]
        self._handle(reason, left, cursor, exits)

    def _handle(self, reason: Value, left: Sequence[ir.Handler], cursor: Cursor, exits: Exits) -> None:
        """Runs the handler of the reason: one of those left, or that of all other reasons."""
        if not left:
            other = next((h for h in self.program.handlers.values() if h.value is None), None)
            if other is not None:
                self._run_handler(other, cursor, exits)
            return
        first, *others = left
        is_first = self.terms.equal(cast(Any, reason), cast(int, first.value), 16)
        if is_first is True:
            self._run_handler(first, cursor, exits)
        elif is_first is False:
            self._handle(reason, others, cursor, exits)
        else:
            self.either(
                is_first,
                lambda branch, out: self._run_handler(first, branch, out),
                lambda branch, out: self._handle(reason, others, branch, out),
                cursor,
                exits,
            )

    def _run_handler(self, handler: ir.Handler, cursor: Cursor, exits: Exits) -> None:
        self.call(self.program.functions[f"handle_{handler.name}"], (), cursor, exits)

    def _rules_hold(self, node: ir.Holds, cursor: Cursor, exits: Exits) -> Truth:  # noqa: ARG002
        return True

    _STATEMENTS: ClassVar[dict[type, Callable[..., None]]] = {
        **Evaluator._STATEMENTS,  # noqa: SLF001 - extended here
        ir.Execute: _execute,
        ir.Dispatch: _dispatch,
    }
    _EXPRESSIONS: ClassVar[dict[type, Callable[..., Any]]] = {
        **Evaluator._EXPRESSIONS,  # noqa: SLF001
        ir.Holds: _rules_hold,
    }


def constants(vector: Vector) -> frozenset[int] | None:
    """The numbers that a choice between numbers can be; None if it can be something else."""
    if isinstance(vector, int):
        return frozenset({vector})
    if z3.is_bv_value(vector):
        return frozenset({vector.as_long()})
    if not z3.is_app_of(vector, z3.Z3_OP_ITE):
        return None
    then, otherwise = (constants(cast(z3.BitVecRef, vector.arg(i))) for i in (1, 2))
    return None if then is None or otherwise is None else then | otherwise


# --- the borders ---------------------------------------------------------------------------------


def _nothing(_call: Call) -> None:
    """The function does nothing."""


def _end_with_event(call: Call) -> None:
    """The run ends with the event that is to be delivered: both machines deliver it in the same way.

    Where the instruction ends is part of it only for events that an instruction asks for.  SDM 3A 6.12.1
    """
    event, terms = cast(Record, call.arguments[0]), call.evaluator.terms
    is_software = terms.compare(">=", cast(Vector, event.field("kind")), SOFTWARE_INTERRUPT, 3)
    following, current = (cast(Vector, call.state.get(name)) for name in ("NEXT_RIP", "RIP"))
    call.state.set("NEXT_RIP", terms.choose(is_software, following, current, 64))
    call.abort(FAULT, True, event)


def _end(call: Call) -> None:
    """The run ends: the guest is stopped."""
    call.cursor.leave(STOPPED, None, None, call.exits)


def _current_guest(call: Call) -> Value:
    """A guest that yields gets the processor back at some time; what happens until then is its switching."""
    return call.state.get("CURRENT_VM")


def unknown_call(call: Call) -> Value | None:
    """The function may do anything to the state that it writes; its result depends on the arguments."""
    function, program, terms = call.function, call.evaluator.program, call.evaluator.terms
    symbols = Symbols(terms)
    for name in sorted(written_by(program, [function.body])):
        variable = program.state[name]
        unknown = Initial(partial(symbols.value, f"{name}!after", variable))
        call.state.set(name, unknown if variable.indices else unknown.read(()))
    if function.result is None:
        return None
    width = width_of(function.result)
    result = Unknowns(terms).vector(f"{function.name}.result", call.typed_arguments, width)
    return terms.equal(result, 1, 1) if isinstance(function.result, ir.Bool) else result


def note_ports(call: Call) -> None:
    """What is written to ports is noted; what the console and the device make of it is the same for both machines."""
    port, value = cast(tuple[Vector, Vector], call.arguments)
    memory, old = call.state.surroundings.memories[PORTS], call.state.elements(PORTS)
    address = call.evaluator.terms.concat([(port, 16), (0, 2)])
    unknown_call(call)
    call.state.set(PORTS, memory.write(old, address, value, 32))


BORDERS: dict[str, Override] = {
    "boundary_exits": _nothing,  # exits that are due before an instruction have goals of their own
    "deliver_exception": _end_with_event,
    "stop_guest": _end,
    "next_guest": _current_guest,
    # What a guest asks of the VMM has no counterpart on the bare machine, and its device is the same there.
    **dict.fromkeys(("hypercall", "read_engine", WRITE_PORTS), unknown_call),
}


def written_by(program: ir.Program, bodies: Sequence[object]) -> frozenset[str]:
    """The names of the state that statements write, through calls too."""
    every = [*bodies, *(f.body for f in reachable_functions(program, bodies))]
    return frozenset().union(*(names_in(body).writes for body in every))


def is_handled(program: ir.Program, terms: Terms, event: Value) -> Truth:
    """The reason of the exit has a handler of its own."""
    reason = cast(Vector, cast(Record, event).field("reason"))
    values = (h.value for h in program.handlers.values() if h.value is not None)
    return terms.disjunction(terms.equal(reason, value, REASON_WIDTH) for value in values)
