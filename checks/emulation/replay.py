"""Replays a counterexample to faithful emulation on the reference model, and says whether it is confirmed.

The guest's machine runs one instruction, the VMM's handler and the VM entry by `run_one`; the bare machine runs the
instruction by `cycle`. Both end where an event would be delivered to the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from checks.case import Case, value_of
from checks.emulation.claims import GETS_EVENT, IS_STOPPED, NEVER_EXITS, RESUMES
from checks.emulation.events import DELIVERED, EVENTS, LENGTH
from checks.emulation.explain import COLUMNS, WAITS
from checks.emulation.machine import WRITE_PORTS
from checks.emulation.runs import ACTIVE, CYCLE, DIFFERS, HALTED, IF, RUN_ONE
from checks.outcome import EXCLUDED
from checks.output import output_console
from checks.trap.contract import VM_EXIT
from checks.trap.replay import COMPLETES, EXITS, Outcome, Player
from refmodel.model import Model
from refmodel.vectors import CaseError

_IGNORED = frozenset({"NEXT_RIP"})
"""What `execute` sets anew before anything reads it."""


class _EndError(Exception):
    """A run ends: with what, and with the value that was delivered."""


@dataclass(slots=True)
class _Seen:
    """What the last VM exit carried, and what was written to ports."""

    event: Any = None
    ports: list[tuple[int, int]] = field(default_factory=list)


def replay(case: Case, model: Model) -> int:
    """Runs the case; 0 if the reference violates the theorem too, 1 if it does not.  Raises CaseError."""
    ends = _run_both(case, model)
    if ends.bare is None:
        raise CaseError(f"{case.id}: the instruction does not exit here")
    table = Table(box=SIMPLE)
    for column in ("", *COLUMNS):
        table.add_column(column)
    table.add_row("it", ends.guest.text, ends.bare.text)
    for row in ends.rows:
        table.add_row(*row)
    console = output_console()
    console.print(f"{case.id}: {case.instruction} ({case.code.hex(' ')})", highlight=False)
    console.print(table)
    console.print(
        f"CONFIRMED: {case.text}" if ends.part else "not confirmed: the reference keeps the theorem here"
    )
    return 0 if ends.part else 1


def outcome(case: Case, model: Model) -> str:
    """What the guest experiences, if the bare machine does the same.  Raises CaseError."""
    ends = _run_both(case, model)
    if ends.bare is None:
        return NEVER_EXITS
    return EXCLUDED if ends.part else RESUMES if ends.guest.text == COMPLETES else ends.guest.text


@dataclass(frozen=True, slots=True)
class _Ends:
    """What a guest whose instruction exits experiences, and the bare machine; None if it does not exit.

    `rows` are the differences where both end alike.
    """

    guest: Outcome
    bare: Outcome | None
    rows: list[tuple[str, str, str]]

    @property
    def part(self) -> bool:
        """Whether there is a difference."""
        return self.bare is not None and (bool(self.rows) or self.guest.text != self.bare.text)


def _run_both(case: Case, model: Model) -> _Ends:
    player, seen = Player(case, model), _Seen()
    with _borders(model, seen, is_whole=bool(case.code)):
        guest = _guest(player, model)
        if seen.event is None:
            return _Ends(guest, None, [])
        written = tuple(seen.ports)
        seen.ports.clear()
        bare = _bare(player, model, seen)
    if guest.text != bare.text or guest.text == IS_STOPPED:
        return _Ends(guest, bare, [])
    looks = player.looks("view", guest.machine)
    rows = player.rows(looks, player.raw(looks, bare.machine))
    rows = [row for row in rows if row[0] not in _IGNORED]
    if written != tuple(seen.ports):
        rows.append(("written to ports", _ports_in_words(written), _ports_in_words(seen.ports)))
    return _Ends(guest, bare, rows)


def _ports_in_words(written: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{port:#x}: {value:#x}" for port, value in written) or "nothing"


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


def _bare(player: Player, model: Model, seen: _Seen) -> Outcome:
    """The instruction on the bare machine, or what the guest's machine does instead."""
    machine = player.bare()
    instruction = _begin(player, model, machine)

    def body(machine: Any) -> None:
        if not model.functions[DIFFERS](machine, seen.event):
            instruction(machine)

    _install(machine, body)
    outcome = _run(player, model, machine, CYCLE)
    wakes = machine.ACTIVITY_STATE == ACTIVE or (
        machine.ACTIVITY_STATE == HALTED and machine.RFLAGS >> IF & 1
    )
    return outcome if outcome.text != COMPLETES or wakes else Outcome(WAITS, machine)


def _begin(player: Player, model: Model, machine: Any) -> Callable[[Any], None]:
    """Makes the case's instruction the current one; what it does. Without code it raises the case's event."""
    decoder, case = model.decoders[model.functions["code_size"](machine)], player.case
    if case.code:
        decoded = machine.current = decoder.decode(case.code)
        machine.instruction_length = decoded.length
        return lambda machine: decoded.run(machine, *decoded.operands)
    machine.instruction_length = case.expected.get(LENGTH, 0)
    kind = next(
        kind for kind, name in EVENTS.items() if any(at.startswith(f"{name}.") for at in case.expected)
    )
    event = value_of(case, model, EVENTS[kind], model.program.aborts[kind].type)

    def raise_event(_machine: Any) -> None:
        raise model.namespace[f"{kind}Abort"](event)

    return raise_event


def _run(player: Player, model: Model, machine: Any, function: str) -> Outcome:
    try:
        model.functions[function](machine)
    except _EndError as end:
        text, *value = end.args
        return Outcome(f"{text}: {player.words(value[0])}" if value else text, machine)
    except model.namespace[f"{VM_EXIT}Abort"]:
        return Outcome(EXITS, machine)  # of the bare machine: there is no such thing
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
def _borders(model: Model, seen: _Seen, *, is_whole: bool) -> Iterator[None]:
    """Puts the borders of the theorem in place of some functions of the model.

    Of events that are delivered all counts if `is_whole`, otherwise what their delivery reads.
    """
    vm_exit = model.namespace["vm_exit"]

    def leave(machine: Any, event: Any) -> None:
        seen.event = event
        vm_exit(machine, event)

    def deliver(_machine: Any, event: Any) -> None:
        ignored = () if is_whole else (name for name in event._fields if name not in DELIVERED)
        _end(GETS_EVENT, event._replace(**dict.fromkeys(ignored, 0)))

    def write_ports(_machine: Any, port: int, value: int) -> None:
        seen.ports.append((port, value))

    borders: dict[str, Callable[..., Any]] = {
        WRITE_PORTS: write_ports,
        "vm_exit": leave,
        "boundary_exits": lambda _machine: None,
        "next_guest": lambda machine: machine.CURRENT_VM,
        "deliver_exception": deliver,
        "stop_guest": lambda _machine: _end(IS_STOPPED),
    }
    kept = {name: model.namespace[name] for name in borders}
    model.namespace.update(borders)
    try:
        yield
    finally:
        model.namespace.update(kept)


def _end(*what: Any) -> None:
    raise _EndError(*what)
