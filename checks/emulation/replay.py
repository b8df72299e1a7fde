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
from rich.console import Console
from rich.table import Table

from checks.case import Case
from checks.emulation.explain import COLUMNS
from checks.emulation.runs import CYCLE, DIFFERS, RUN_ONE
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
    with _borders(model, seen):
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
    console = Console(soft_wrap=True)
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
    decoder, decoded = _decoded(player, model, machine)

    def body(machine: Any) -> None:
        decoded.run(machine, *decoded.operands)

    _install(machine, decoder, decoded, body)
    outcome = _run(player, model, machine, RUN_ONE)
    if outcome.text == COMPLETES:
        outcome = _run(player, model, machine, RUN_ONE)
    is_back = outcome.text != COMPLETES or machine.IN_NON_ROOT
    return outcome if is_back else Outcome("never runs again", machine)


def _bare(player: Player, model: Model, seen: _Exit) -> Outcome:
    """The instruction on the bare machine, or what the guest's machine does instead."""
    machine = player.bare()
    decoder, decoded = _decoded(player, model, machine)

    def body(machine: Any) -> None:
        if not model.functions[DIFFERS](machine, seen.event):
            decoded.run(machine, *decoded.operands)

    _install(machine, decoder, decoded, body)
    return _run(player, model, machine, CYCLE)


def _decoded(player: Player, model: Model, machine: Any) -> tuple[Any, Any]:
    """The decoder for the machine's code, and the case's instruction."""
    decoder = model.decoders[model.functions["code_size"](machine)]
    return decoder, decoder.decode(player.case.code)


def _run(player: Player, model: Model, machine: Any, function: str) -> Outcome:
    try:
        model.functions[function](machine)
    except _EndError as end:
        text, *value = end.args
        return Outcome(f"{text}: {player.words(value[0])}" if value else text, machine)
    except model.outside as error:
        raise CaseError(model.what_is_outside(error)) from None
    return Outcome(COMPLETES, machine)


def _install(machine: Any, decoder: Any, decoded: Any, body: Callable[[Any], None]) -> None:
    """Makes `execute` run the case's instruction, without fetching it."""

    def execute(machine: Any) -> None:
        machine.current = decoded
        machine.instruction_length = decoded.length
        machine.NEXT_RIP = machine.RIP + decoded.length & decoder.offset_mask
        body(machine)
        machine.RIP = machine.NEXT_RIP

    machine.__class__ = type("Replayed", (type(machine),), {"execute": execute, "__slots__": ()})


@contextmanager
def _borders(model: Model, seen: _Exit) -> Iterator[None]:
    """Puts the borders of the theorem in place of some functions of the model."""
    vm_exit = model.namespace["vm_exit"]

    def leave(machine: Any, event: Any) -> None:
        seen.event = event
        vm_exit(machine, event)

    borders: dict[str, Callable[..., Any]] = {
        "vm_exit": leave,
        "boundary_exits": lambda _machine: None,
        "next_guest": lambda machine: machine.CURRENT_VM,
        "deliver_exception": lambda _machine, event: _end("gets the event", event),
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
