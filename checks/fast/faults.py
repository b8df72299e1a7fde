"""Known faults: patches on the text of the fast model, which a proof refutes and a fuzzer must notice.

A faulty fast model is a copy of the package with one patch, found before the installed one by what is started with
`environment` of it. So the text that is proved is the text that runs.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import fastmodel
from checks.errors import UsageError
from grammar.cachedir import cache_directory

FILE = Path(__file__).with_name("faults.toml")
PACKAGE = Path(fastmodel.__file__).parent


class FaultError(Exception):
    """A fault does not fit the text of the fast model; the message names it and the file."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `old`, which is there once in a file of the fast model, becomes `new`; `goal` is then refuted."""

    id: str
    story: str
    file: str
    old: str
    new: str
    goal: str

    def apply(self, text: str) -> str:
        """The faulty text.  Raises FaultError if the patch does not fit."""
        if text.count(self.old) != 1:
            raise FaultError(
                f"fault {self.id}: its text is there {text.count(self.old)} times in fastmodel/{self.file}"
            )
        return text.replace(self.old, self.new)


def faults() -> dict[str, Fault]:
    """All faults by id."""
    entries = tomllib.loads(FILE.read_text("utf-8"))["fault"]
    return {entry["id"]: Fault(**entry) for entry in entries}


def chosen_faults(names: Sequence[str]) -> list[Fault]:
    """The faults with these ids; all if there are none.  Raises UsageError."""
    every = faults()
    unknown = [name for name in names if name not in every]
    if unknown:
        raise UsageError(f"--faults {unknown[0]}: no such fault; their ids are in checks/fast/faults.toml")
    return [every[name] for name in names] if names else list(every.values())


def run_module(
    environment: Mapping[str, str], module: str, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Runs a module in a process that has a fault; what it came to, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def faulty(fault: Fault) -> Iterator[Mapping[str, str]]:
    """The environment in which a new process has the fault, while the context lasts."""
    with TemporaryDirectory(prefix="nonroot-fault-") as directory:
        package = Path(directory) / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        file = package / fault.file
        file.write_text(fault.apply(file.read_text("utf-8")), "utf-8")
        search = os.pathsep.join(filter(None, (directory, os.environ.get("PYTHONPATH"))))
        yield {**os.environ, "PYTHONPATH": search, **_cache()}


def _cache() -> dict[str, str]:
    """A cache for what faults are compiled to: the command's own keeps what it has."""
    directory = cache_directory()
    return {} if directory is None else {"NONROOT_CACHE": str(directory / "faults")}
