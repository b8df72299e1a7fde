"""One worker process: takes groups from a pipe, proves their goals, sends each result as it comes."""

from __future__ import annotations

import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import z3

import grammar
from checks.cache import ProofCache
from checks.families import families
from checks.prover.selection import Task
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to know once.  Terms cannot be sent between processes, so each worker builds its own."""

    specification: Path | None
    limits: Limits
    cache: Path | None


@dataclass(frozen=True, slots=True)
class Done:
    """A task is finished; `error` is a traceback if it failed."""

    task: Task
    error: str = ""


def serve(connection: Connection, setup: Setup) -> None:
    """Runs tasks until the pipe is closed or a None comes.  An interrupt is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = grammar.load(setup.specification)
    known = families()
    cache = ProofCache(setup.cache) if setup.cache is not None else None
    while True:
        try:
            task: Task | None = connection.recv()
        except EOFError:
            return
        if task is None:
            return
        try:
            group = known[task.family].build(program, task.group, z3.Context(), task.ids)
            runner = GroupRunner(group, setup.limits, cache)
            for goal in group.goals:
                if goal.id in task.ids:
                    connection.send(runner.prove(goal))
            connection.send(Done(task))
        except Exception:  # noqa: BLE001 - whatever went wrong with this group, the others can go on
            connection.send(Done(task, traceback.format_exc()))


def failed(task: Task, one: str, status: Status, detail: str) -> Result:
    """The result for a goal that got no answer."""
    return Result(one, task.group, status, 0.0, detail=detail)
