"""Pauses the garbage collector while a specification is read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Reading allocates many objects and frees few; looking for garbage in between costs up to half of the time.

    What was read stays as long as the process: the collector never looks at it again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
