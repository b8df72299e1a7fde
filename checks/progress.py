"""How far long work is, on standard error: one line that changes on a terminal, a new line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from typing import Self, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

ON_TERMINAL, IN_LOG = 0.1, 30.0
"""Seconds between two showings."""

T = TypeVar("T")


class Progress:
    """Shows a text whenever it is time: as results come or, if it `beats`, in a log also while none does.

    What beats has a thread, which keeps the process from being forked. `start` is when the work began, by the monotonic
    clock. What is printed meanwhile stands above the line.
    """

    def __init__(self, *, start: float | None = None, beats: bool = False) -> None:
        self._start = time.monotonic() if start is None else start
        self._text: Callable[[], str] = str
        console = Console(stderr=True)
        self._is_live = console.is_terminal
        # A standard output that goes elsewhere is not to be mixed with what is shown.
        self._live = Live(
            "", console=console, transient=True, auto_refresh=False, redirect_stdout=sys.stdout.isatty()
        )
        self._shown = time.monotonic()
        self._is_over = threading.Event()
        self._thread = (
            threading.Thread(target=self._beat, daemon=True) if beats and not self._is_live else None
        )

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def show(self, text: Callable[[], str]) -> None:
        """Shows a text, which is made if it is time."""
        self._text = text
        if self._thread is None and time.monotonic() - self._shown > (
            ON_TERMINAL if self._is_live else IN_LOG
        ):
            self._draw()

    def _draw(self) -> None:
        self._shown = time.monotonic()
        line = f"{_spell(self._shown - self._start)}  {self._text()}"
        if self._is_live:
            self._live.update(Text(line), refresh=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _beat(self) -> None:
        while not self._is_over.wait(IN_LOG):
            self._draw()


def _spell(seconds: float) -> str:
    """`12 s`, `3 min 5 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def tracked(items: Iterable[T], what: str) -> Iterator[T]:
    """The items one by one, while it shows how many of them are done; `what` they are stands behind the number."""
    of = f" of {len(items)}" if isinstance(items, Sized) else ""
    with Progress() as progress:
        for done, one in enumerate(items):
            progress.show(partial("{}{} {}".format, done, of, what))
            yield one
