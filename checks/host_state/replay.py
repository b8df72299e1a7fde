"""Replays a broken promise on the reference model: the instruction, or the VMM's functions, and then the promise."""

from __future__ import annotations

from typing import Any

from checks.case import Case
from checks.host_state.built import BOOT
from checks.host_state.promises import CURRENT, ENTER, LOAD, RECORD, SAVE, THIS_CPU, mode_of, promises
from checks.trap.contract import VM_EXIT
from checks.trap.replay import COMPLETES, Player
from grammar import ir
from refmodel.model import Model
from refmodel.vectors import CaseError


def replay(case: Case, model: Model) -> int:
    """Runs the case: 0 if a promise holds before and not after, 1 if it does not break.

    Raises CaseError if the case names no function or no promise.
    """
    player = Player(case, model)
    lost = _lost_by_instruction(player) if case.code else _lost_by_calls(player)
    print(f"{case.id}: {case.instruction}")
    for name in lost:
        print(f"  {name}: does not hold after it")
    print(f"CONFIRMED: {case.text}" if lost else "not confirmed: the promise is kept here")
    return 0 if lost else 1


def _lost_by_instruction(player: Player) -> list[str]:
    """The promises about the guest that its own instruction breaks."""
    machine = player.machine({})
    outcome = player.run(machine)
    if outcome.text == COMPLETES:
        machine.RIP = machine.NEXT_RIP
    before = player.machine({})
    names = [one.name for one in promises(player.model.program) if not one.predicate.parameters]
    held = [name for name in names if _holds(player, before, name, is_running=True)]
    return [name for name in held if not _holds(player, machine, name, is_running=True)]


def _lost_by_calls(player: Player) -> list[str]:
    """The promise of the case, if the calls break it."""
    *calls, promise = player.case.instruction.split("; ")
    machine, before = player.machine({}), player.machine({})
    is_running = bool(getattr(before, mode_of(player.model.program)))
    was_kept = calls[0] == BOOT or _holds(player, before, promise, is_running=is_running)
    for name in calls:
        _call(player, machine, name)
    is_lost = was_kept and not _holds(player, machine, promise, is_running=False)
    return [promise] if is_lost else []


def _call(player: Player, machine: Any, name: str) -> None:
    """Calls a function with the arguments that the case gives it."""
    function = player.model.program.functions.get(name)
    if function is None:
        raise CaseError(f"the specification has no function '{name}'")
    arguments = (_argument(player, f"{name}.{p.name}", p.type) for p in function.parameters)
    player.model.functions[name](machine, *arguments)


def _argument(player: Player, name: str, type_: ir.Type) -> Any:
    if not isinstance(type_, ir.Struct):
        return player.case.expected.get(name, 0)
    fields = (_argument(player, f"{name}.{field}", t) for field, t in type_.fields)
    return player.model.namespace[type_.name](*fields)


def _holds(player: Player, machine: Any, name: str, *, is_running: bool) -> bool:
    """Asks a promise about the guest that runs, or else about the one that waits: it is entered for a policy."""
    functions, program = player.model.functions, player.model.program
    promise = next((one for one in promises(program) if one.name == name), None)
    if promise is None:
        raise CaseError(f"the specification has no rule and no policy '{name}'")
    if is_running and not promise.is_policy:
        event = _argument(player, "", program.aborts[VM_EXIT].type)
        functions[RECORD](machine, event)
        functions[SAVE](machine, event)
    elif promise.is_policy and not is_running:
        functions[ENTER](machine, THIS_CPU, getattr(machine, CURRENT))
        functions[LOAD](machine)
        setattr(machine, mode_of(program), True)
    function = name.replace(".", "_") if promise.is_policy else f"rule_{name.replace('.', '_')}"
    arguments = (player.case.expected.get(f"{name}.{p.name}", 0) for p in promise.predicate.parameters)
    return bool(functions[function](machine, *arguments))
