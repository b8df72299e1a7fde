"""How many VM exits a second: a guest that does nothing but exit, under the whole VMM."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from checks.bench.engines import timed
from checks.bench.kernels import EXIT_GUEST, EXITS
from fastmodel import FastEngine
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import Image, Segment
from refmodel.model import Model
from refmodel.session import Session

MEMORY = 0x20000  # bytes of the guest


def exits_per_second(model: Model, repeats: int) -> dict[str, float]:
    """Medians for the reference alone, and with the fast engine in front."""
    assembled = assemble(EXIT_GUEST, Encoder(model.program))
    image = Image(
        "exits", (Segment(assembled.origin, assembled.code, len(assembled.code)),), assembled.origin
    )
    seconds: dict[str, list[float]] = {"reference": [], "fast": []}
    for _ in range(repeats):
        for name, found in seconds.items():
            found.append(timed(_runner(model, image, name))[0])
    return {name: EXITS / median(found) for name, found in seconds.items()}


def _runner(model: Model, image: Image, engine: str) -> Callable[[], int]:
    """Boots the guest; what is returned runs it."""
    session = Session(model, [image], MEMORY, lambda _guest, _character: None)
    ahead = FastEngine(model.program, session.machine).run if engine == "fast" else None
    return lambda: session.run(None, ahead)
