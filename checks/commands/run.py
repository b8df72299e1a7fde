"""`nonroot run`: boots guests under the specification's VMM and runs them side by side."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from checks.errors import UsageError

if TYPE_CHECKING:
    from grammar.ir import Program
    from refmodel.model import Model
    from refmodel.session import Guest, Session

DEFAULT_MEMORY = 1 << 20  # bytes for each guest
_FEWEST_BYTES = 1 << 16
_MOST_BYTES = 1 << 30  # what the loader's page tables map
_NORMAL_ENDS = frozenset({"HLT", "VMCALL"})
_FAILED, _STEPS_USED_UP = 1, 3
_INTERRUPT_REASONS = 0x20  # from here on fault reasons are about interrupt requests (VT-d, appendix A)
_NEWLINE = ord("\n")
_TURNS = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="assembly (.asm), ELF64 executable or flat binary",
    )
    parser.add_argument("--engine", choices=("reference", "fast"), default="reference", help="what runs them")
    parser.add_argument("--trace", action="store_true", help="print every instruction to standard error")
    parser.add_argument("--max-steps", type=int, metavar="N", help="stop after N instructions")
    parser.add_argument(
        "--memory",
        type=_size,
        default=DEFAULT_MEMORY,
        metavar="BYTES",
        help="for each guest, e.g. 4M (default 1M)",
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="print the number of instructions and the speed, beside that of a minimal Python loop",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the guests; 0 if each ended by itself, 1 if one failed, 3 if the steps did not suffice."""
    import refmodel
    from refmodel.image import ImageError
    from refmodel.image_files import load_image
    from refmodel.session import NoEntry, Session

    if args.trace and args.engine == "fast":
        raise UsageError("run: --trace needs the reference engine")
    console = Console(len(args.images) > 1)
    try:
        model = refmodel.load(args.spec)
        images = [load_image(path, model.program) for path in args.images]
        session = Session(model, images, args.memory, console.write)
        session.machine.listeners["device_fault"] = _fault_printer(model.program)
    except ImageError as error:
        raise UsageError(str(error)) from None
    begin = time.process_time()
    steps = 0
    try:
        steps = _runner(session, model, args)(args.max_steps)
    except NoEntry as error:
        print(f"nonroot: guest {session.machine.CURRENT_VM}: {error}", file=sys.stderr)
        return _FAILED
    except model.outside as error:
        console.finish()
        print(f"nonroot: the VMM: {model.what_is_outside(error)}", file=sys.stderr)
        return _FAILED
    finally:
        console.finish()
    if args.stats:
        _print_speed(steps, time.process_time() - begin)
    return _report(session, model.program)


def _print_speed(steps: int, seconds: float) -> None:
    """The speed in CPU time, and that of the least that Python can do, in the same process."""
    begin, turns = time.process_time(), _TURNS
    while turns:
        turns -= 1
    loop = _TURNS / (time.process_time() - begin)
    print(
        f"{steps:,} steps in {seconds:.2f} s of CPU time, {steps / seconds:,.0f} a second"
        f" (a minimal Python loop: {loop:,.0f} turns a second)",
        file=sys.stderr,
    )


def _runner(session: Session, model: Model, args: argparse.Namespace) -> Callable[[int | None], int]:
    """What runs the session for a number of steps."""
    if args.trace:
        from refmodel.trace import Tracer

        return Tracer(session, model.program, sys.stderr.write).run
    if args.engine == "fast":
        from fastmodel import FastEngine, GuestEngine

        try:
            ahead = GuestEngine(model, session.machine).run
        except ImportError:
            print(
                "nonroot: llvmlite is not installed: the fast engine runs as plain Python, slowly",
                file=sys.stderr,
            )
            ahead = FastEngine(model.program, session.machine).run_guest
        return lambda steps: session.run(steps, ahead)
    return session.run


def _fault_printer(program: Program) -> Callable[[int, int, int], None]:
    """Says which request of a device was blocked, and why."""
    from grammar.ir import Enum

    reasons = program.types["FaultReason"]
    names = {value: name for name, value in reasons.members} if isinstance(reasons, Enum) else {}

    def show(device: int, information: int, reason: int) -> None:
        place = f"{device >> 8:02x}:{device >> 3 & 31:02x}.{device & 7}"
        why = names.get(reason, "?").lower().replace("_", " ")
        what = (
            f"interrupt {information >> 48:#x}" if reason >= _INTERRUPT_REASONS else f"page {information:#x}"
        )
        print(f"nonroot: device {place}: {what} blocked: {why} ({reason:#x})", file=sys.stderr)

    return show


def _report(session: Session, program: Program) -> int:
    """Says how each guest ended that did not end by itself."""
    from grammar.ir import Enum

    reasons = program.types["ExitReason"]
    names = {value: name for name, value in reasons.members} if isinstance(reasons, Enum) else {}
    status = 0
    for guest in session.guests.values():
        name = f"nonroot: guest {guest.number} ({guest.image.name})"
        end = _end(guest, names)
        if end is None:
            print(f"{name} still runs: more with --max-steps", file=sys.stderr)
            status = max(status, _STEPS_USED_UP)
        elif end not in _NORMAL_ENDS:
            print(f"{name} was stopped: {end}", file=sys.stderr)
            status = max(status, _FAILED)
    return status


def _end(guest: Guest, reasons: Mapping[int, str]) -> str | None:
    """What ended a guest; None if it still runs."""
    if guest.outside is not None or guest.reason is None:
        return guest.outside
    return reasons.get(guest.reason, f"exit reason {guest.reason}")


class Console:
    """What guests print: at once if there is one, else line by line with the guest's number in front."""

    def __init__(self, prefixed: bool) -> None:
        self._prefixed = prefixed
        self._lines: dict[int, bytearray] = {}

    def write(self, guest: int, character: int) -> None:
        """A byte from a guest."""
        if not self._prefixed:
            sys.stdout.buffer.write(bytes((character,)))
            if character == _NEWLINE:
                sys.stdout.buffer.flush()
            return
        line = self._lines.setdefault(guest, bytearray())
        line.append(character)
        if character == _NEWLINE:
            self._flush(guest)

    def finish(self) -> None:
        """Writes lines that have no end yet."""
        for guest in [g for g, line in self._lines.items() if line]:
            self._lines[guest] += b"\n"
            self._flush(guest)
        sys.stdout.buffer.flush()

    def _flush(self, guest: int) -> None:
        sys.stdout.buffer.write(f"{guest}: ".encode() + self._lines[guest])
        sys.stdout.buffer.flush()
        self._lines[guest].clear()


def _size(text: str) -> int:
    """A number of bytes with an optional K, M or G."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        size = int(number, 0) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a size: {text}") from None
    if not _FEWEST_BYTES <= size <= _MOST_BYTES or size % 0x1000:
        raise argparse.ArgumentTypeError("between 64K and 1G, in whole pages of 4K")
    return size
