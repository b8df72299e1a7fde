"""A process that has pytest and the reference loaded, and runs tests with mutants in place, each time in a fork.

It is asked through a connection, and answers there. A test is known by pytest's `nodeid`.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

import refmodel
from checks.mutate.places import mutated
from checks.mutate.tested.parts import Reached, changed_part
from checks.mutate.tested.questions import Noticed, Survey, Surveyed, Try
from fastmodel import FastEngine
from refmodel.model import Model

SECONDS = 20
"""A test that takes so much processor time has noticed the mutant: the tests are quick."""

T = TypeVar("T")


class TooLongError(Exception):
    """A test does not end."""


def serve(connection: Connection, specification: Path | None, files: Sequence[Path]) -> None:
    """Says which tests the files have, then answers until it is ended: the whole of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent to handle
    _be_silent()
    model = refmodel.load(specification)
    refmodel.load = lambda directory=None: model  # noqa: ARG005
    FastEngine.__init__ = _no_fast_model  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/tests"]
        pytest.main([*options, *map(str, files)], plugins=[_Plugin(connection, model)])


def _be_silent() -> None:
    """What tests print is of no interest."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)


def _no_fast_model(*_arguments: object, **_named: object) -> NoReturn:
    raise NotImplementedError("mutants are in the reference only")


@dataclass(slots=True)
class _Plugin:
    """Instead of running the tests, pytest answers questions about them."""

    connection: Connection
    model: Model
    _items: Mapping[str, pytest.Item] = field(default_factory=dict)
    _reached: Reached = field(init=False)
    _has_failed: bool = False

    def pytest_runtestloop(self, session: pytest.Session) -> NoReturn:
        self._items = {item.nodeid: item for item in session.items}
        self._reached = Reached(self.model)
        self.connection.send(list(self._items))
        while True:
            question = self.connection.recv()
            if isinstance(question, Survey):
                answer = _in_a_fork(partial(self._surveyed, question.test))
                self.connection.send(answer or Surveyed(False, frozenset(), 0.0))
            else:
                self.connection.send(_in_a_fork(partial(self._noticed, question)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed |= report.failed

    def _surveyed(self, test: str) -> Surveyed:
        start = time.process_time()
        with self._reached.noted() as found:
            passes = self._first_that_fails([test]) is None
        return Surveyed(passes, frozenset(found), time.process_time() - start)

    def _noticed(self, question: Try) -> Noticed | None:
        start = time.process_time()
        program = self.model.program
        faulty = mutated(program, question.mutant)
        self.model.redefine(faulty, changed_part(program, faulty))
        test = self._first_that_fails(question.tests)
        return None if test is None else Noticed(test, time.process_time() - start)

    def _first_that_fails(self, tests: Iterable[str]) -> str | None:
        items = [self._items[test] for test in tests]
        for item, following in pairwise([*items, None]):
            assert item is not None
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._has_failed:
                return item.nodeid
        return None


def _in_a_fork(work: Callable[[], T]) -> T | None:
    """What a function returns in a process of its own, so that nothing else changes; None if that does not return."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGVTALRM, _too_long)
            with os.fdopen(sending, "wb") as stream:
                pickle.dump(work(), stream)
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    found: T | None = pickle.loads(answer) if answer else None
    return found


def _too_long(_signal: int, _frame: object) -> NoReturn:
    raise TooLongError
