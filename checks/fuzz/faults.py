"""Whether fuzzing finds the known faults of the fast model (checks/fast/faults.toml): `nonroot fuzz --faults`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from checks.commands.errors import UsageError
from checks.fast.faults import Fault, faults, faulty
from grammar.cachedir import cache_directory

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a campaign with a fault came to: whether it was found, after how long, and by which instruction."""

    fault: Fault
    is_found: bool
    seconds: float
    cases: int
    instruction: str


def chosen_faults(names: Sequence[str]) -> list[Fault]:
    """The faults with these ids; all if there are none.  Raises UsageError."""
    every = faults()
    unknown = [name for name in names if name not in every]
    if unknown:
        raise UsageError(f"--faults {unknown[0]}: no such fault; their ids are in checks/fast/faults.toml")
    return [every[name] for name in names] if names else list(every.values())


def find_all(chosen: Sequence[Fault], seconds: float) -> Iterator[Finding]:
    """Fuzzes the fast model with each fault in turn, for `seconds` at most."""
    for fault in chosen:
        yield find(fault, seconds)


def find(fault: Fault, seconds: float) -> Finding:
    """Runs `nonroot fuzz --mode ci` in a process that has the fault, with a cache of its own."""
    with faulty(fault) as environment, TemporaryDirectory(prefix="nonroot-corpus-") as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-P", "-m", "checks", "fuzz", "--mode", "ci", "--seconds", f"{seconds:g}"]
        command += ["--corpus", directory, "--json", str(report)]
        begin = time.monotonic()
        done = subprocess.run(
            command, env={**environment, **_cache()}, capture_output=True, text=True, check=False
        )
        elapsed = time.monotonic() - begin
        if done.returncode not in (0, 1):
            raise UsageError(
                f"fault {fault.id}: the fuzzer ended with status {done.returncode}: {done.stderr}"
            )
        document = json.loads(report.read_text(encoding="utf-8"))
    found = document["divergences"]
    instruction = str(found[0]["instruction"]) if found else ""
    return Finding(fault, bool(found), elapsed, int(document["cases"]), instruction)


def _cache() -> dict[str, str]:
    """A cache for what faults are compiled to: the command's own keeps what it has."""
    directory = cache_directory()
    return {} if directory is None else {"NONROOT_CACHE": str(directory / "faults")}
