"""One worker process: takes groups from a pipe, proves their goals, sends each result as it comes."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import z3

import grammar
from checks.cache import ProofCache
from checks.extract import Extractor
from checks.families import families
from checks.prover.memo import remember
from checks.prover.selection import Task
from checks.solve import GroupRunner, Limits
from checks.solvers.text import Z3
from checks.theorem import Family, Result, Status
from grammar.garbage import no_garbage_collection
from grammar.ir import Program


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to know once.  Terms cannot be sent between processes, so each worker builds its own."""

    specification: Path | None
    limits: Limits
    cache: Path | None
    solvers: tuple[str, ...] = (Z3,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A specification, and the families with what they have found out about it."""

    program: Program
    families: Mapping[str, Family]

    @classmethod
    def of(cls, specification: Path | None) -> Loaded:
        """What a process loads that begins with nothing."""
        return cls(grammar.load(specification), families())


@dataclass(frozen=True, slots=True)
class Done:
    """A task is finished; `error` is a traceback if it failed."""

    task: Task
    error: str = ""


BATCH_SECONDS = 0.1
"""So long a result may wait for others that are sent with it."""
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt.  glibc, malloc.h"""


def keep_freed_memory() -> None:
    """Has the C library keep what a group frees for the next one: the system would give it back page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, size in ((TRIM_THRESHOLD, 1 << 30), (TOP_PAD, 1 << 25), (MMAP_THRESHOLD, 1 << 25)):
            mallopt(parameter, size)


def serve(
    connection: Connection, setup: Setup, loaded: Loaded | None = None, others: Iterable[Connection] = ()
) -> None:
    """Runs tasks until the pipe is closed or a None comes.  An interrupt is for the parent to handle.

    A process that was forked has what the parent has `loaded`. It closes its copies of the parent's `others` ends of
    pipes, or it would keep them open when the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    for other in others:
        other.close()
    worker = _Worker(setup, loaded or Loaded.of(setup.specification))
    while True:
        try:
            task: Task | None = connection.recv()
        except EOFError:
            return
        if task is None:
            return
        try:
            # When a term is freed decides which number the next one gets, which decides on the order of others.
            with no_garbage_collection():
                for results in in_batches(worker.prove(task)):
                    connection.send(results)
            connection.send(Done(task))
        except BrokenPipeError:
            return  # the parent is gone
        except Exception:  # noqa: BLE001 - whatever went wrong with this group, the others can go on
            connection.send(Done(task, traceback.format_exc()))
        gc.collect(1)


def in_batches(results: Iterable[Result], seconds: float = BATCH_SECONDS) -> Iterator[list[Result]]:
    """The results as they come, those together that come soon after each other: sending them one by one costs more."""
    held, sent = list[Result](), time.monotonic()
    for result in results:
        held.append(result)
        if time.monotonic() - sent > seconds:
            yield held
            held, sent = [], time.monotonic()
    if held:
        yield held


class _Worker:
    """What a process keeps between tasks."""

    def __init__(self, setup: Setup, loaded: Loaded) -> None:
        self._setup, self._loaded = setup, loaded
        self._extractor = Extractor(loaded.program)
        self._cache = ProofCache(setup.cache) if setup.cache is not None else None

    def prove(self, task: Task) -> Iterator[Result]:
        """The verdicts on the wanted goals of a group, as they come."""
        made_from = self._extractor.of(task.roots)
        group = self._loaded.families[task.family].build(made_from, task.group, z3.Context(), task.ids)
        runner = GroupRunner(group, self._setup.limits, self._cache, self._setup.solvers)
        results = []
        for goal in group.goals:
            if goal.id in task.ids:
                results.append(runner.prove(goal))
                yield results[-1]
        if self._cache is not None:
            self._remember(self._cache, task, results)

    def _remember(self, cache: ProofCache, task: Task, results: Sequence[Result]) -> None:
        if {r.id for r in results if r.status is Status.PROVED} == task.ids:
            remember(cache, task.key, results)
        if cache.warning:
            print(f"nonroot: {cache.warning}", file=sys.stderr)
            cache.warning = ""


def failed(task: Task, one: str, status: Status, detail: str) -> Result:
    """The result for a goal that got no answer."""
    return Result(one, task.group, status, 0.0, detail=detail)
