"""Replays counterexamples about registers: the reference enters a guest, or lets another run and comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks.case import get_item, set_item, value_of
from checks.host_state.built import START
from checks.host_state.handlers import EXIT_FUNCTION, LEAVE
from checks.host_state.promises import CURRENT, ENTER, LOAD, THIS_CPU, mode_of
from checks.host_state.twice import AWAY, SWITCH, VM, is_shared
from checks.trap.replay import Player
from refmodel.vectors import CaseError


def is_lost(player: Player) -> bool:
    """Whether the case's register is in no class or two, or the guest sees in it what it should not."""
    kind, register = player.case.id.rsplit(".", 1)[-1], player.case.instruction.split("[")[0]
    if kind not in _KINDS or register not in player.model.program.state:
        raise CaseError(f"'{player.case.id}' does not name a theorem about a register, '{register}'")
    return _KINDS[kind](player)


def _is_in_no_class(player: Player) -> bool:
    """Counts the classes: what sets a register sets it to the same whatever it was."""
    variable = player.model.program.state[player.case.instruction.split("[")[0]]
    is_loaded = _sets(player, player.model.functions[LOAD])
    is_switched = _sets(player, lambda machine: _switch(player, machine, player.case.expected.get(VM, 0)))
    count = is_loaded + is_switched + is_shared(player.model.program, variable)
    return count > 1 or (count == 0 and _is_the_guests(player))


def _sets(player: Player, act: Callable[[Any], object]) -> bool:
    """Whether something sets the register."""
    name, found = player.case.instruction, set()
    for value in (0, 1):
        machine = player.machine({name: value})
        act(machine)
        found.add(get_item(machine, player.model.program, name))
    return len(found) == 1


def _is_the_guests(player: Player) -> bool:
    """Whether nothing of the register is the VMM's."""
    name, _, index = player.case.instruction.partition("[")
    host = player.model.functions.get(f"host_{name}")
    point = [int(n) for n in index.rstrip("]").split(",") if n]
    return host is None or not host(player.machine({player.case.instruction: 1}), *point)


def _differs_after_entry(player: Player) -> bool:
    """The guest sees something else if all that is not its own is otherwise."""
    state = player.model.program.state
    other = {n: v for n, v in player.case.expected.items() if n.split("[")[0] in state}
    return _entered(player, {}) != _entered(player, other)


def _entered(player: Player, changes: dict[str, int]) -> int:
    """What the guest sees of the register once it is switched to and entered."""
    machine, guest = player.machine(changes), player.case.expected.get(VM, 0)
    machine.vmcs_of[guest] = machine.vmcs  # the fields of the case are those of this guest's VMCS
    _switch(player, machine, guest)
    _enter(player, machine)
    return _seen(player, machine)


def _differs_after_start(player: Player) -> bool:
    """A new guest sees something else if all that was there before it is otherwise."""
    state = player.model.program.state
    other = {n: v for n, v in player.case.expected.items() if n.split("[")[0] in state}
    return _begun(player, {}) != _begun(player, other)


def _begun(player: Player, changes: dict[str, int]) -> int:
    """What a new guest sees of the register once it is made ready and entered."""
    machine, function = player.machine(changes), player.model.program.functions[START]
    given = (player.case.expected.get(f"{START}.{p.name}", 0) for p in function.parameters)
    player.model.functions[START](machine, *given)
    _enter(player, machine)
    return _seen(player, machine)


def _differs_after_return(player: Player) -> bool:
    """The guest sees something else when it runs again after another."""
    machine, functions = player.machine({}), player.model.functions
    own, other = getattr(machine, CURRENT), player.case.expected.get(VM, 0)
    machine.vmcs_of[own] = machine.vmcs
    parameter = player.model.program.functions[EXIT_FUNCTION].parameters[0]
    event = value_of(player.case, player.model, f"{EXIT_FUNCTION}.{parameter.name}", parameter.type)
    functions[EXIT_FUNCTION](machine, event)
    functions[LEAVE](machine)
    _switch(player, machine, other)
    for name, value in player.case.expected.items():
        if name.startswith(AWAY):
            set_item(machine, player.model.program, name.removeprefix(AWAY), value)
    _switch(player, machine, own)
    _enter(player, machine)
    return _seen(player, player.machine({})) != _seen(player, machine)


def _switch(player: Player, machine: Any, guest: int) -> None:
    player.model.functions[SWITCH](machine, guest)


def _enter(player: Player, machine: Any) -> None:
    """The current guest is entered; that VM entry accepts its VMCS is another theorem."""
    player.model.functions[ENTER](machine, THIS_CPU, getattr(machine, CURRENT))
    player.model.functions[LOAD](machine)
    setattr(machine, mode_of(player.model.program), True)


def _seen(player: Player, machine: Any) -> int:
    """What the guest sees of the register."""
    name, _, index = player.case.instruction.partition("[")
    point = [int(n) for n in index.rstrip("]").split(",") if n]
    return int(player.model.functions[f"view_{name}"](machine, *point))


_KINDS: dict[str, Callable[[Player], bool]] = {
    "class": _is_in_no_class,
    "entry": _differs_after_entry,
    "start": _differs_after_start,
    "return": _differs_after_return,
}
