"""Replays a broken promise on the reference model: the instruction, or the VMM's functions, and then the promise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

from checks.case import Case, value_of
from checks.host_state.built import BOOT
from checks.host_state.cycle import AROUND, DELIVERY
from checks.host_state.explain import GOES_ON
from checks.host_state.instructions import IS_AFTER
from checks.host_state.promises import CURRENT, ENTER, LOAD, RECORD, SAVE, THIS_CPU, mode_of, promises
from checks.host_state.register_replay import is_lost
from checks.host_state.registers import GROUP as REGISTERS
from checks.outcome import EXCLUDED
from checks.symbolic.paths import RETURN
from checks.totality.calls import ScriptedCalls, Watch
from checks.totality.havoc import EXECUTE
from checks.totality.open_run import end_in_words
from checks.trap.contract import VM_EXIT
from checks.trap.replay import COMPLETES, Player
from refmodel.model import Model
from refmodel.vectors import CaseError

STOPPED = "guest_stopped"
"""The output of a guest's end."""


def replay(case: Case, model: Model) -> int:
    """Runs the case: 0 if a promise holds before and not after, 1 if it does not break.

    Raises CaseError if the case names no function or no promise.
    """
    player = Player(case, model)
    lost = list(_lost(player))
    print(f"{case.id}: {case.instruction}")
    for name in lost:
        print(f"  {name}: does not hold after it")
    print(f"CONFIRMED: {case.text}" if lost else "not confirmed: the promise is kept here")
    return 0 if lost else 1


def outcome(case: Case, model: Model) -> str:
    """What the case's instruction, function or calls do, if no promise breaks.  Raises CaseError."""
    player = Player(case, model)
    if any(_lost(player)):
        return EXCLUDED
    if case.code:
        return player.run(player.machine({})).text
    if _is_about_register(player):
        return ""
    return _end_on_the_way(player) if _is_around(player) else _end_of_calls(player)


def _end_on_the_way(player: Player) -> str:
    """How the function ends."""
    raised = ScriptedCalls(player.case, player.model, _stop_before(None)).run(player.machine({}))
    return end_in_words(RETURN if raised is None else type(raised).__name__.removesuffix("Abort"))


def _end_of_calls(player: Player) -> str:
    """Whether the guest is as alive as before after the calls."""
    *calls, _ = player.case.instruction.split("; ")
    machine = player.machine({})
    stopped = list[int]()
    machine.listeners[STOPPED] = lambda *_: stopped.append(1)
    done = [_call(player, machine, name) for name in calls]
    return "is stopped" if stopped or done[-1] is False else GOES_ON


def _is_about_register(player: Player) -> bool:
    return player.case.id.startswith(f"{REGISTERS}.")


def _is_around(player: Player) -> bool:
    return player.case.id.startswith((f"{AROUND}.", f"{DELIVERY}."))


def _lost(player: Player) -> Iterable[str]:
    if player.case.code:
        return _lost_by_instruction(player)
    if _is_about_register(player):
        return [player.case.instruction] if is_lost(player) else []
    return _lost_on_the_way(player) if _is_around(player) else _lost_by_calls(player)


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


def _lost_on_the_way(player: Player) -> Iterator[str]:
    """The promise of the case, if it does not hold where the function ends, or where something left open begins."""
    calls = ScriptedCalls(player.case, player.model, _stop_before(None))
    if _holds(player, player.machine({}), calls.claim, is_running=True):
        for number in (*range(len(calls.names)), None):
            machine = _run_until(player, number)
            is_instruction = number is not None and calls.names[number] == EXECUTE
            if not _holds(player, machine, calls.claim, is_running=True):
                yield calls.claim
            elif is_instruction and _is_blocked(player, _run_until(player, number)):
                yield f"{calls.claim}: interrupts are blocked"


class _StopError(Exception):
    """The run has come to where it is to stop."""


def _stop_before(number: int | None) -> Watch:
    """Stops a run before the call of that number, never if it is None."""
    left = count()

    def watch(_machine: Any, _name: str, _arguments: tuple[Any, ...]) -> None:
        if next(left) == number:
            raise _StopError

    return watch


def _run_until(player: Player, number: int | None) -> Any:
    """The machine before the call of that number, or at the end."""
    machine = player.machine({})
    with suppress(_StopError):
        ScriptedCalls(player.case, player.model, _stop_before(number)).run(machine)
    return machine


def _is_blocked(player: Player, machine: Any) -> bool:
    """Whether the instruction before has left something that lasts for one more."""
    _save(player, machine)
    return bool(player.model.functions[IS_AFTER](machine))


def _save(player: Player, machine: Any) -> None:
    """Saves the guest's state as a VM exit does."""
    event = value_of(player.case, player.model, "", player.model.program.aborts[VM_EXIT].type)
    player.model.functions[RECORD](machine, event)
    player.model.functions[SAVE](machine, event)


def _call(player: Player, machine: Any, name: str) -> Any:
    """Calls a function with the arguments that the case gives it: what it returns."""
    function = player.model.program.functions.get(name)
    if function is None:
        raise CaseError(f"the specification has no function '{name}'")
    arguments = (value_of(player.case, player.model, f"{name}.{p.name}", p.type) for p in function.parameters)
    return player.model.functions[name](machine, *arguments)


def _holds(player: Player, machine: Any, name: str, *, is_running: bool) -> bool:
    """Asks a promise about the guest that runs, or else about the one that waits: it is entered for a policy."""
    functions, program = player.model.functions, player.model.program
    promise = next((one for one in promises(program) if one.name == name), None)
    if promise is None:
        raise CaseError(f"the specification has no rule and no policy '{name}'")
    if is_running and not promise.is_policy:
        _save(player, machine)
    elif promise.is_policy and not is_running:
        functions[ENTER](machine, THIS_CPU, getattr(machine, CURRENT))
        functions[LOAD](machine)
        setattr(machine, mode_of(program), True)
    function = name.replace(".", "_") if promise.is_policy else f"rule_{name.replace('.', '_')}"
    arguments = (player.case.expected.get(f"{name}.{p.name}", 0) for p in promise.predicate.parameters)
    return bool(functions[function](machine, *arguments))
