"""Worker processes that can be killed: a solver that ignores its limits, or dies, takes nothing else with it.

On Linux they are forked, and begin with all that their parent has loaded and found out. A process with threads is not
forked, since a thread may hold a lock, of which the copy would never be released.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from checks.prover.selection import Task
from checks.prover.worker import Done, Loaded, Setup, failed, serve
from checks.theorem import Result, Status

_SPAWN = multiprocessing.get_context("spawn")
START_SECONDS = 60.0
"""How long a worker may take for all that is not solving: importing, loading, building a group's terms."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    open_ids: set[str] = field(default_factory=set)
    deadline: float = 0.0

    def give(self, task: Task, seconds: float) -> None:
        self.task, self.open_ids = task, set(task.ids)
        self.renew(seconds)
        self.connection.send(task)

    def renew(self, seconds: float) -> None:
        """Each goal has the time for its witnesses and its own question."""
        self.deadline = time.monotonic() + START_SECONDS + 4 * seconds

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Pool:
    """Proves tasks, the first ones first, in up to `processes` processes.  A task is asked for when one is idle."""

    def __init__(self, tasks: Iterable[Task], setup: Setup, loaded: Loaded, processes: int) -> None:
        self._setup, self._loaded, self._processes = setup, loaded, processes
        self._pending = iter(tasks)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def results(self, tick_seconds: float = 0.2) -> Iterator[Result | None]:
        """Results as they come, and None at least every `tick_seconds`, for a progress line to move."""
        for _ in range(self._processes):
            self._begin()
        while self._workers:
            ready = wait([worker.connection for worker in self._workers], timeout=tick_seconds)
            for worker in list(self._workers):
                if worker.connection in ready:
                    yield from self._receive(worker)
                elif time.monotonic() > worker.deadline:
                    yield from self._replace(worker, Status.TIMEOUT, "the solver did not stop in time")
            yield None

    def _begin(self) -> None:
        """One more worker, if there is a task for it."""
        task = next(self._pending, None)
        if task is not None:
            worker = self._start()
            self._workers.append(worker)
            worker.give(task, self._setup.limits.seconds)

    def _start(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        process: BaseProcess
        if sys.platform == "linux" and threading.active_count() == 1:
            others = [ours, *(worker.connection for worker in self._workers)]
            inherited = (theirs, self._setup, self._loaded, others)
            process = multiprocessing.get_context("fork").Process(target=serve, args=inherited, daemon=True)
        else:
            process = _SPAWN.Process(target=serve, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _next(self, worker: _Worker) -> None:
        """The next task for an idle worker, or its end."""
        task = next(self._pending, None)
        if task is not None:
            worker.give(task, self._setup.limits.seconds)
        else:
            worker.stop()
            self._workers.remove(worker)

    def _receive(self, worker: _Worker) -> Iterator[Result]:
        try:
            message: Sequence[Result] | Done = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._replace(worker, Status.ERROR, "the process that proved it died")
            return
        if not isinstance(message, Done):
            worker.open_ids.difference_update(result.id for result in message)
            worker.renew(self._setup.limits.seconds)
            yield from message
            return
        for one in sorted(worker.open_ids):
            yield failed(message.task, one, Status.ERROR, message.error or "the group has no such goal")
        self._next(worker)

    def _replace(self, worker: _Worker, status: Status, why: str) -> Iterator[Result]:
        """Kills a worker; its open goals get that status, and a fresh worker goes on with the other tasks."""
        worker.stop()
        self._workers.remove(worker)
        if worker.task is not None:
            for one in sorted(worker.open_ids):
                yield failed(worker.task, one, status, why)
        self._begin()
