"""How many VM exits a second: a guest that does nothing but exit, under the whole VMM."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from checks.bench.engines import timed
from checks.bench.kernels import exit_guest
from fastmodel import GuestEngine
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import Image, Segment
from refmodel.model import Model
from refmodel.session import Session

MEMORY = 0x20000  # bytes of the guest
EXITS = {"reference": 1000, "fast": 100_000}


def exits_per_second(model: Model, repeats: int) -> dict[str, float]:
    """Medians for the reference, and for the fast model with the compiled reference."""
    seconds: dict[str, list[float]] = {name: [] for name in EXITS}
    for _ in range(repeats):
        for name, found in seconds.items():
            found.append(timed(_runner(model, name))[0])
    return {name: EXITS[name] / median(found) for name, found in seconds.items()}


def _runner(model: Model, engine: str) -> Callable[[], int]:
    """Boots the guest; what is returned runs it."""
    assembled = assemble(exit_guest(EXITS[engine]), Encoder(model.program))
    segment = Segment(assembled.origin, assembled.code, len(assembled.code))
    image = Image("exits", (segment,), assembled.origin)
    session = Session(model, [image], MEMORY, lambda _guest, _character: None)
    if engine == "reference":
        return lambda: session.run(None)
    ahead = GuestEngine(model, session.machine).run
    return lambda: session.run(None, ahead)
