"""A line for every instruction and VM exit of a session."""

from __future__ import annotations

from collections.abc import Callable

from grammar.ir import Enum, Program
from refmodel.registers import GENERAL, Register, name_of
from refmodel.session import Session
from refmodel.text import text

_NAMES = [name_of(Register(GENERAL, number, 64)) for number in range(16)]


class Tracer:
    """Steps a session and writes what happened: address, bytes, text, and the registers that changed."""

    def __init__(self, session: Session, program: Program, write: Callable[[str], object]) -> None:
        self._session = session
        self._write = write
        reasons = program.types.get("ExitReason")
        self._reasons = {v: n for n, v in reasons.members} if isinstance(reasons, Enum) else {}

    def run(self, max_steps: int | None) -> int:
        """Runs until no guest is left, or for so many steps; returns how many were made."""
        done, alive = 0, True
        while alive and (max_steps is None or done < max_steps):
            alive = self._step()
            done += 1
        return done

    def _step(self) -> bool:
        machine = self._session.machine
        in_guest, rip, guest = machine.IN_NON_ROOT, machine.RIP, machine.CURRENT_VM
        registers = list(machine.GPR)
        machine.current = None
        alive = self._session.step()
        if not in_guest:
            return alive
        self._instruction(guest, rip)
        if machine.IN_NON_ROOT:
            changes = (
                f"{n}={new:#x}"
                for n, new, old in zip(_NAMES, machine.GPR, registers, strict=True)
                if new != old
            )
            self._write(f"  {' '.join(changes)}\n")
        else:
            self._write(f"  exit {self._reasons.get(machine.vmcs.EXIT_REASON & 0xFFFF, 'OTHER')}\n")
        return alive

    def _instruction(self, guest: int, rip: int) -> None:
        decoded = self._session.machine.current
        if decoded is None:
            self._write(f"{guest} {rip:016x} {'(no instruction)':50}")
        else:
            self._write(f"{guest} {rip:016x} {decoded.data.hex():20} {text(decoded, rip):40}")
