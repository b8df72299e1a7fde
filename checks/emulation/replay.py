"""Replays a counterexample to faithful emulation on the reference model, and says whether it is confirmed.

The guest's machine runs one instruction, the VMM's handler and the VM entry by `run_one`; the bare machine runs the
instruction by `cycle`. Both end where an event would be delivered to the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from checks.case import Case, value_of
from checks.emulation.exceptions import DELIVERED, EVENT, LENGTH
from checks.emulation.explain import COLUMNS
from checks.emulation.runs import CYCLE, DIFFERS, RUN_ONE
from checks.output import output_console
from checks.trap.contract import FAULT
from checks.trap.replay import COMPLETES, Outcome, Player
from refmodel.model import Model
from refmodel.vectors import CaseError

_IGNORED = frozenset({"NEXT_RIP"})
"""What `execute` sets anew before anything reads it."""


class _EndError(Exception):
    """A run ends: with what, and with the value that was delivered."""


@dataclass(slots=True)
class _Exit:
    """What the last VM exit carried."""

    event: Any = None


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the reference violates the theorem too, 1 if it does not.  Raises CaseError."""
    player, seen = Player(case, model), _Exit()
    with _borders(model, seen, is_whole=bool(case.code)):
        guest = _guest(player, model)
        if seen.event is None:
            raise CaseError(f"{case.id}: the instruction does not exit here")
        bare = _bare(player, model, seen)
    looks = player.looks("view", guest.machine)
    ends_alike = guest.text == bare.text
    rows = (
        player.rows(looks, player.raw(looks, bare.machine))
        if ends_alike and guest.text != "is stopped"
        else []
    )
    rows = [row for row in rows if row[0] not in _IGNORED]
    table = Table(box=SIMPLE)
    for column in ("", *COLUMNS):
        table.add_column(column)
    table.add_row("it", guest.text, bare.text)
    for row in rows:
        table.add_row(*row)
    console = output_console()
    console.print(f"{case.id}: {case.instruction} ({case.code.hex(' ')})", highlight=False)
    console.print(table)
    is_violated = bool(rows) or not ends_alike
    console.print(
        f"CONFIRMED: {case.text}" if is_violated else "not confirmed: the reference keeps the theorem here"
    )
    return 0 if is_violated else 1


def _guest(player: Player, model: Model) -> Outcome:
    """The guest's instruction, the handler, and the entry."""
    machine = player.machine({})
    body = _begin(player, model, machine)
    _install(machine, body)
    outcome = _run(player, model, machine, RUN_ONE)
    if outcome.text == COMPLETES:
        outcome = _run(player, model, machine, RUN_ONE)
    is_back = outcome.text != COMPLETES or machine.IN_NON_ROOT
    return outcome if is_back else Outcome("never runs again", machine)


def _bare(player: Player, model: Model, seen: _Exit) -> Outcome:
    """The instruction on the bare machine, or what the guest's machine does instead."""
    machine = player.bare()
    instruction = _begin(player, model, machine)

    def body(machine: Any) -> None:
        if not model.functions[DIFFERS](machine, seen.event):
            instruction(machine)

    _install(machine, body)
    return _run(player, model, machine, CYCLE)


def _begin(player: Player, model: Model, machine: Any) -> Callable[[Any], None]:
    """Makes the case's instruction the current one; what it does. Without code it raises the case's event."""
    decoder, case = model.decoders[model.functions["code_size"](machine)], player.case
    if case.code:
        decoded = machine.current = decoder.decode(case.code)
        machine.instruction_length = decoded.length
        return lambda machine: decoded.run(machine, *decoded.operands)
    machine.instruction_length = case.expected.get(LENGTH, 0)
    event = value_of(case, model, EVENT, model.program.aborts[FAULT].type)

    def raise_event(_machine: Any) -> None:
        raise model.namespace[f"{FAULT}Abort"](event)

    return raise_event


def _run(player: Player, model: Model, machine: Any, function: str) -> Outcome:
    try:
        model.functions[function](machine)
    except _EndError as end:
        text, *value = end.args
        return Outcome(f"{text}: {player.words(value[0])}" if value else text, machine)
    except model.outside as error:
        raise CaseError(model.what_is_outside(error)) from None
    return Outcome(COMPLETES, machine)


def _install(machine: Any, body: Callable[[Any], None]) -> None:
    """Makes `execute` do what the case's instruction does, without fetching it."""

    def execute(machine: Any) -> None:
        decoder = machine.decoders[machine.code_size(machine)]
        machine.NEXT_RIP = machine.RIP + machine.instruction_length & decoder.offset_mask
        body(machine)
        machine.RIP = machine.NEXT_RIP

    machine.__class__ = type("Replayed", (type(machine),), {"execute": execute, "__slots__": ()})


@contextmanager
def _borders(model: Model, seen: _Exit, *, is_whole: bool) -> Iterator[None]:
    """Puts the borders of the theorem in place of some functions of the model.

    Of events that are delivered all counts if `is_whole`, otherwise what their delivery reads.
    """
    vm_exit = model.namespace["vm_exit"]

    def leave(machine: Any, event: Any) -> None:
        seen.event = event
        vm_exit(machine, event)

    def deliver(_machine: Any, event: Any) -> None:
        ignored = () if is_whole else (name for name in event._fields if name not in DELIVERED)
        _end("gets the event", event._replace(**dict.fromkeys(ignored, 0)))

    borders: dict[str, Callable[..., Any]] = {
        "vm_exit": leave,
        "boundary_exits": lambda _machine: None,
        "next_guest": lambda machine: machine.CURRENT_VM,
        "deliver_exception": deliver,
        "stop_guest": lambda _machine: _end("is stopped"),
    }
    kept = {name: model.namespace[name] for name in borders}
    model.namespace.update(borders)
    try:
        yield
    finally:
        model.namespace.update(kept)


def _end(*what: Any) -> None:
    raise _EndError(*what)
