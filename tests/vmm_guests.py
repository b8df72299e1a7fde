"""Guests under the VMM for tests: texts in assembler that say on the console what they saw."""

from __future__ import annotations

from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import FLAT_ADDRESS, Image, Segment
from refmodel.model import Model
from refmodel.session import Session

PAGE_SIZE = 0x1000
MEMORY = 0x40000  # of a guest
ENGINE = {1: 1 << 3, 2: 2 << 3}  # the source-ids of the guests' engines
ENGINE_SOURCE, ENGINE_DESTINATION, ENGINE_COPY = 0xD00, 0xD04, 0xD08
ENGINE_INTERRUPT, ENGINE_FAULT = 0xD14, 0xD18


def program(source: int, destination: int, count: int = 1) -> str:
    """Lets the guest's engine copy quadwords."""
    pairs = ((ENGINE_SOURCE, source), (ENGINE_DESTINATION, destination), (ENGINE_COPY, count))
    return "\n".join(f"mov dx, {port}\nmov eax, {value}\nout dx, eax" for port, value in pairs)


def hypercall(number: int, argument: int = 0) -> str:
    return f"mov eax, {number}\nmov ebx, {argument}\nvmcall"


def say(port: int) -> str:
    """Writes what a port of the engine reads, a digit."""
    return f"mov dx, {port}\nin eax, dx\nadd al, 0x30\nout 0xe9, al"


def session_of(model: Model, *texts: str) -> tuple[Session, dict[int, str]]:
    """Guests that run these texts, and what each writes."""
    written = dict.fromkeys(range(1, len(texts) + 1), "")
    encoder = Encoder(model.program)

    def console(guest: int, byte: int) -> None:
        written[guest] += chr(byte)

    images = []
    for text in texts:
        code = assemble(f"org {FLAT_ADDRESS}\n{text}\nhlt\n", encoder).code
        images.append(Image("guest", (Segment(FLAT_ADDRESS, code, len(code)),), FLAT_ADDRESS))
    return Session(model, images, MEMORY, console), written


def output_of(model: Model, *texts: str) -> dict[int, str]:
    """What each guest writes until all have ended."""
    session, written = session_of(model, *texts)
    session.run(20_000)
    assert all(guest.reason is not None for guest in session.guests.values())
    return written
