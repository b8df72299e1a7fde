"""Pauses the garbage collector where looking for garbage does harm."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Objects in cycles are not freed in between."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def reading() -> Iterator[None]:
    """Reading allocates many objects and frees few; looking for garbage in between costs up to half of the time.

    The first specification that is read stays as long as the process: the collector never looks at it again.
    """
    is_outermost = gc.isenabled()
    with no_garbage_collection():
        yield
        if is_outermost and not gc.get_freeze_count():
            gc.freeze()
