"""Guests that show what a bug does: they run side by side on the reference, and write to their consoles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import FLAT_ADDRESS, Image, Segment
from refmodel.model import Model
from refmodel.session import NoEntry, Session

MEMORY = 0x40000
MOST_STEPS = 20_000

# Sets up an IDT of 32 gates for `handlers`, 16 bytes each, and loads it and the GDT.
LOAD_TABLES = """
    lea rbx, [rel handlers]
    lea rdi, [rel idt]
    mov ecx, 32
gate:
    mov rax, rbx
    mov word [rdi], ax
    mov word [rdi+2], 8
    mov word [rdi+4], 0x8e00
    shr rax, 16
    mov word [rdi+6], ax
    add rdi, 16
    add rbx, 16
    dec ecx
    jnz gate
    lidt [rel idtr]
    lgdt [rel gdtr]
"""

# The handlers write the vector as a letter ("a" is 0) and halt. The GDT has code and data of CPL 0 (08, 10), of CPL 3
# (1b, 23), code of 32 bits (28) and conforming code (30).
_END = """
    hlt
    align 16
handlers:
{handlers}
    align 16
gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff
    dq 0x00cf9b000000ffff, 0x00af9f000000ffff
gdtr: dw 55
    dq gdt
idtr: dw 511
    dq idt
    align 16
idt: times 512 db 0
"""


@dataclass(frozen=True, slots=True)
class Observed:
    """What each guest wrote, and what else was seen."""

    written: tuple[str, ...]
    remark: str = ""


def observe(model: Model, guests: Sequence[str]) -> Observed:
    """Runs guests, given as assembly texts, until all have halted or for a while."""
    encoder = Encoder(model.program)
    written = dict.fromkeys(range(1, len(guests) + 1), "")

    def console(guest: int, byte: int) -> None:
        written[guest] += chr(byte)

    session = Session(model, [_image(text, encoder) for text in guests], MEMORY, console)
    remark = ""
    try:
        session.run(MOST_STEPS)
    except NoEntry as error:
        remark = str(error)
    return Observed(tuple(written.values()), remark)


def _image(text: str, encoder: Encoder) -> Image:
    handlers = "\n".join(f"align 16\nmov al, {ord('a') + n}\nout 0xe9, al\nhlt" for n in range(32))
    whole = f"org {FLAT_ADDRESS}\n{LOAD_TABLES}\n{text}\n{_END.format(handlers=handlers)}\n"
    data = assemble(whole, encoder).code
    return Image("guest", (Segment(FLAT_ADDRESS, data, len(data)),), FLAT_ADDRESS)
