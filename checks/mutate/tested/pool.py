"""Several processes that say which tests notice mutants."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from checks.mutate.tested.questions import Noticed, Survey, Surveyed, Try

FILES = (
    "test_vtd_translation.py",
    "test_vtd_faults.py",
    "test_vtd_invalidation.py",
    "test_vtd_interrupts.py",
    "test_vmx.py",
    "test_vmx_msrs.py",
    "test_vmx_features.py",
    "test_ept.py",
    "test_translation_caches.py",
    "test_events.py",
    "test_arrivals.py",
    "test_transitions.py",
    "test_system_instructions.py",
    "test_sensitive_instructions.py",
    "test_hardware_steps.py",
    "test_isolation_statements.py",
    "test_vmm_memory.py",
    "test_vmm_devices.py",
    "test_vmm_handlers.py",
    "test_devices.py",
    "test_vmm.py",
    "test_run.py",
    "test_replay.py",
    "test_examples.py",
)
"""The tests that run what concerns virtualization on the reference, those first that are about one thing at a time."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Pool:
    """Processes that answer one question at a time each, and the tests there are, in order."""

    connections: Sequence[Connection]
    tests: Sequence[str]

    def survey(self, tests: Sequence[str]) -> dict[str, Surveyed]:
        """What each of these tests does without a mutant, in their order."""
        found = dict(self._answers((test, Survey(test)) for test in tests))
        return {test: found[test] for test in tests}

    def noticed(self, questions: Iterable[tuple[int, Try]]) -> Iterator[tuple[int, Noticed | None]]:
        """For each mutant, by number and as they come, the first of its tests that fails, if any."""
        yield from self._answers(questions)

    def _answers(self, questions: Iterable[tuple[K, Survey | Try]]) -> Iterator[tuple[K, Any]]:
        """The answers as they come, with what the questions are known by."""
        waiting = iter(questions)
        running: dict[Connection, K] = {}
        free = list(self.connections)
        while True:
            while free and (following := next(waiting, None)) is not None:
                connection = free.pop()
                running[connection], question = following
                connection.send(question)
            if not running:
                return
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                yield running.pop(ready), ready.recv()
                free.append(ready)


@contextmanager
def pool(specification: Path | None, folder: Path, jobs: int) -> Iterator[Pool]:
    """Processes for the tests in a folder."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(jobs)]
    files = [folder / name for name in FILES if (folder / name).exists()]
    processes = [
        context.Process(target=_serve, args=(there, specification, files), daemon=True) for _, there in pairs
    ]
    for process in processes:
        process.start()
    for _, there in pairs:
        there.close()  # so that a process that ends is noticed here
    here = [connection for connection, _ in pairs]
    try:
        tests = [connection.recv() for connection in here]  # all have the same
        yield Pool(here, tests[0])
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(connection: Connection, specification: Path | None, files: Sequence[Path]) -> None:
    """The whole of a process: the only one that needs pytest."""
    from checks.mutate.tested.session import serve

    serve(connection, specification, files)
