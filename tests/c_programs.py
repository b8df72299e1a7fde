"""Builds the C program of examples/c as a guest, in a directory of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "examples" / "c"
SMALL = (24, 100, 50)  # numbers to sort, primes up to, bytes to hash

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("make") is None, reason="needs gcc and make"
)


def built(directory: Path, optimisation: str, sizes: tuple[int, int, int]) -> Path:
    """The program's ELF file."""
    for source in SOURCES.iterdir():
        if source.suffix != ".elf":
            shutil.copy(source, directory)
    names = zip(("COUNT", "LIMIT", "BYTES"), sizes, strict=True)
    defines = " ".join(f"-D{name}={value}" for name, value in names)
    flags = f"{_flags()} {optimisation} {defines} -Werror"
    subprocess.run(["make", "-s", "-C", str(directory), f"CFLAGS={flags}", "integers.elf"], check=True)
    return directory / "integers.elf"


def _flags() -> str:
    """The Makefile's CFLAGS."""
    lines = (SOURCES / "Makefile").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("CFLAGS"))
