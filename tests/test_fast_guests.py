"""Guests in the fast model and the compiled reference, VMM and all, against the Python reference: the same machine."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from c_programs import SMALL, built, needs_compiler

from fastmodel import GuestEngine
from fastmodel.reference.layout import MOST_VMCS
from fastmodel.reference.purpose import CASES
from fastmodel.reference.reach import reach
from grammar import ir
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import FLAT_ADDRESS, Image, Segment
from refmodel.image_files import load_image
from refmodel.model import Model
from refmodel.session import Session

EXAMPLES = Path(__file__).parent.parent / "examples"
MEMORY = 1 << 18
MOST_STEPS = 30_000

TRIPLE_FAULT = "lidt [rel nothing]\nud2\nnothing: dw 0\ndq 0"
UNKNOWN = "nop\ndb 0xc5, 0xf8, 0x77\nhlt"  # VZEROUPPER
LOOP_OF_EXITS = "next: mov eax, 1\nvmcall\njmp next"
COUNTDOWN = "mov ecx, 30000\nnext: dec ecx\njne next\nmov al, 0x2e\nout 0xe9, al\nhlt"
# What it changed in its page tables is seen after INVLPG; before, either is right.
REMAPPED = """
        mov     byte [0x20000], 0x41
        mov     rax, [0x3000]
        or      rax, 0x200000
        invlpg  [0x20000]
        cpuid
        mov     al, [0x20000]
        out     0xe9, al
        hlt
"""


class Pair:
    """The same guests twice: by the Python reference alone, and by it with the engine ahead."""

    def __init__(self, model: Model, guests: Sequence[str | Image]) -> None:
        self._program = model.program
        self.told: tuple[list[Any], list[Any]] = ([], [])
        self.reference, self.tested = (self._session(model, guests, told) for told in self.told)
        self.engine = GuestEngine(model, self.tested.machine)
        self.made = 0  # by the engine
        self.steps = 0  # by both

    @staticmethod
    def _session(model: Model, guests: Sequence[str | Image], told: list[Any]) -> Session:
        encoder = Encoder(model.program)
        images = [guest if isinstance(guest, Image) else assembled(guest, encoder) for guest in guests]
        session = Session(model, images, MEMORY, lambda *character: told.append(character))
        session.machine.listeners["device_fault"] = lambda *fault: told.append(fault)
        return session

    def run(self, pieces: Iterator[int]) -> None:
        """Runs both to the end, or so far, in pieces of so many steps, after each of which they must be the same."""
        for steps in pieces:
            made = self.reference.run(steps)
            assert self.tested.run(steps, self._ahead) == made
            self.steps += made
            self.compare()
            if made < steps:
                return

    def _ahead(self, limit: int) -> int:
        made = self.engine.run(limit)
        self.made += made
        return made

    def compare(self) -> None:
        """Every register, variable, VMCS field and byte of memory is the same."""
        left, right = self.reference.machine, self.tested.machine
        assert self.told[0] == self.told[1]
        variables = [v.name for space in ("register", "state") for v in self._program.state_in(space)]
        for name in variables:
            assert values(getattr(left, name)) == values(getattr(right, name)), name
        assert left.vmcs_of.keys() == right.vmcs_of.keys()
        for number, vmcs in left.vmcs_of.items():
            for field in self._program.state_in("vmcs"):
                assert getattr(vmcs, field.name) == getattr(right.vmcs_of[number], field.name), field.name
            assert (left.vmcs is vmcs) == (right.vmcs is right.vmcs_of[number])
        assert left.PHYSICAL.data[:] == right.PHYSICAL.data[:]
        ends = [[(g.reason, g.outside) for g in s.guests.values()] for s in (self.reference, self.tested)]
        assert ends[0] == ends[1]


def assembled(text: str, encoder: Encoder) -> Image:
    code = assemble(f"org {FLAT_ADDRESS}\n{text}\n", encoder, str(EXAMPLES / "x")).code
    return Image("guest", (Segment(FLAT_ADDRESS, code, len(code)),), FLAT_ADDRESS)


def values(variable: Any) -> Any:
    """A variable; of an indexed one what is not as at reset."""
    if not isinstance(variable, dict):
        return variable
    return {index: value for index, value in variable.items() if value != variable[-1]}


def in_pieces(sizes: Sequence[int], most: int, seed: int = 1) -> Iterator[int]:
    source = random.Random(seed)
    done = 0
    while done < most:
        steps = source.choice(sizes)
        done += steps
        yield steps


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.asm").read_text()


GUESTS = {
    "hello": [example("hello")],
    "paging": [example("paging")],
    "dma": [example("dma")],
    "side by side": [example("hello"), example("dma"), example("attacker"), COUNTDOWN],
    "triple fault": [TRIPLE_FAULT, COUNTDOWN],
    "outside of the specification": [UNKNOWN, COUNTDOWN],
    "remapped": [REMAPPED],
}


@pytest.mark.parametrize("name", GUESTS)
def test_guests_are_the_same_machine(model: Model, name: str) -> None:
    pair = Pair(model, GUESTS[name])
    pair.run(in_pieces((997, 3001), MOST_STEPS))
    assert pair.made > 0.99 * pair.steps or pair.steps < 1000, "hardly anything is left to Python"


def test_a_long_loop_is_the_same_machine(model: Model) -> None:
    """Long enough to be translated."""
    pair = Pair(model, [example("sieve")])
    pair.run(in_pieces((9_001, 30_003), 150_000))
    assert b"".join(bytes(c[1:]) for c in pair.told[0]) == b"1229 primes below 10000\n"
    assert pair.made > 0.99 * pair.steps


@needs_compiler
def test_a_c_program_is_the_same_machine(model: Model, tmp_path: Path) -> None:
    pair = Pair(model, [load_image(built(tmp_path, "-O2", SMALL), model.program)])
    pair.run(in_pieces((997, 3001), MOST_STEPS))
    assert pair.steps > 10_000
    assert pair.made > 0.99 * pair.steps


@pytest.mark.parametrize("name", ["paging", "side by side"])
def test_guests_are_the_same_machine_at_every_place(model: Model, name: str) -> None:
    Pair(model, GUESTS[name]).run(in_pieces((1, 2, 7, 40), 1500))


def test_instructions_without_a_handler_run_compiled(model: Model) -> None:
    """Nothing that an instruction reaches is left to Python: no output, no part of a cache that is forgotten."""
    found = reach(model.program, [CASES.root])
    bodies = [body.body for i in model.program.instructions.values() for body in i.bodies]
    nodes = list(every_node([*(f.body for f in found.functions.values()), *bodies]))
    assert not [node for node in nodes if isinstance(node, ir.Output | ir.Dispatch)]
    assert not [node for node in nodes if isinstance(node, ir.Forget) and node.keys]


def every_node(parts: Sequence[Any]) -> Iterator[Any]:
    pending = list(parts)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, tuple):
            pending += node
        elif isinstance(node, ir.If):
            pending += [node.then, node.otherwise]
        elif isinstance(node, ir.Attempt):
            pending += [node.body, *(catch.body for catch in node.catches)]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT is KeyboardInterrupt, also where the tests run in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_control_c_leaves_the_machine_whole(model: Model) -> None:
    pair = Pair(model, [LOOP_OF_EXITS])
    # To this thread: another one would take it while this one has it blocked.
    timer = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pair.tested.run(None, pair.engine.run)
    timer.join()
    machine = pair.tested.machine
    assert machine.TSC > 10_000, "the run was under way"
    before = machine.TSC
    assert pair.tested.run(400) == 400, "Python goes on"
    assert machine.TSC - before == 300


def test_more_vmcss_than_there_is_room_for_are_left_to_python(model: Model) -> None:
    pair = Pair(model, [COUNTDOWN])
    pair.tested.machine.vmcs_of[MOST_VMCS] = pair.tested.machine.new_vmcs()
    assert pair.engine.run(100) == 0
