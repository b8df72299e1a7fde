"""What the claims about entries and ends say of a run on the reference."""

from __future__ import annotations

from typing import Any

from checks.case import value_of
from checks.host_state.handlers import EXIT_FUNCTION
from checks.host_state.promises import THIS_CPU, mode_of
from checks.symbolic.values import width_of
from checks.totality.endings import (
    DOMAIN,
    END_OF_TIME,
    GONE,
    IS_ENDED,
    IS_GONE,
    IS_LEFT,
    NO_DOMAIN,
    OTHERS_GO_ON,
    TIME,
)
from checks.totality.entries import (
    ENTRY,
    HAS_ITS_TURN,
    HAS_TIME,
    IS_ALIVE,
    IS_CURRENT,
    IS_ENTERED,
    LIVE,
    NEXT,
    RUNNING,
    TIMER,
    VMM,
    YIELDS,
    YIELDS_NO_MORE,
)
from checks.totality.handlers import life
from checks.totality.played import Played
from checks.totality.requests import CURRENT, LIVES
from checks.trap.contract import VM_EXIT


def of_an_entry(run: Played) -> bool:
    """Whether a claim about whom the VMM enters holds."""
    machine, is_entered, turn = run.machine, ENTRY in run.called, _turn(run)
    guest = getattr(machine, CURRENT)
    if run.claim == IS_ENTERED:
        can_enter = getattr(run.start, RUNNING)[THIS_CPU] == VMM and turn != VMM
        return is_entered or not can_enter
    claims = {
        IS_CURRENT: getattr(machine, RUNNING)[THIS_CPU] == guest,
        IS_ALIVE: _is(run, machine, guest, LIVE),
        HAS_ITS_TURN: guest == turn,
        YIELDS_NO_MORE: not getattr(machine, YIELDS),
        HAS_TIME: getattr(machine.vmcs, TIMER) != 0,
    }
    return not is_entered or bool(claims[run.claim])


def _turn(run: Played) -> int:
    """The guest whose turn it is."""
    leaves = getattr(run.start, YIELDS) or not _is(run, run.start, run.vm, LIVE)
    return int(run.model.functions[NEXT](run.start)) if leaves else run.vm


def of_an_end(run: Played) -> bool:
    """Whether a claim about the guest that is ended, or about other processors, holds."""
    machine = run.machine
    running, ran = (getattr(one, RUNNING) for one in (machine, run.start))
    (index,) = run.model.program.state[RUNNING].indices
    others = [cpu for cpu in range(1 << width_of(index.type)) if cpu != THIS_CPU]
    is_last = _is(run, run.start, run.vm, LIVE) and all(ran[cpu] == VMM for cpu in others)
    has_time = getattr(machine, TIME) < run.model.program.constants[END_OF_TIME].value
    can_be_gone = is_last and has_time and getattr(machine, DOMAIN)[run.vm] == NO_DOMAIN
    claims = {
        IS_ENDED: not _is(run, machine, run.vm, LIVE),
        IS_LEFT: running[THIS_CPU] == VMM,
        IS_GONE: not can_be_gone or _is(run, machine, run.vm, GONE),
        OTHERS_GO_ON: all(running[cpu] == ran[cpu] for cpu in others),
    }
    return bool(claims[run.claim])


def is_ended(run: Played) -> bool:
    """Whether the guest lived, and lives no more."""
    return _is(run, run.start, run.vm, LIVE) and not _is(run, run.machine, run.vm, LIVE)


def is_back_with_host(run: Played, name: str) -> bool:
    """Whether a register is what a VM exit leaves: unchanged, if there was one."""
    left = run.fresh()
    if getattr(left, mode_of(run.model.program)):
        event = value_of(run.case, run.model, "", run.model.program.aborts[VM_EXIT].type)
        run.model.functions[EXIT_FUNCTION](left, event)
    return run.is_same(name, left)


def _is(run: Played, machine: Any, vm: int, part: str) -> bool:
    """Whether a guest is in that part of its life."""
    return bool(getattr(machine, LIVES)[vm] == life(run.model.program, part))
