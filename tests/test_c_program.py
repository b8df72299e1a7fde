"""A C program compiled by gcc runs on the reference and prints what the same computations in Python give."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from checks.cli import main

SOURCES = Path(__file__).parents[1] / "examples" / "c"
TEXT = "The quick brown fox jumps over the lazy dog"
MASK = (1 << 64) - 1
STEPS = 100_000


def expected() -> str:
    """What examples/c/integers.c prints."""
    state, numbers = 88172645463325252, []
    for _ in range(24):
        state ^= state << 13 & MASK
        state ^= state >> 7
        state ^= state << 17 & MASK
        numbers.append(state % 2001 - 1000)
    numbers.sort()
    primes = sum(all(n % d for d in range(2, n)) for n in range(2, 100))
    lines = [
        *(" ".join(map(str, numbers[i : i + 8])) for i in range(0, 24, 8)),
        f'crc32("{TEXT}") = {zlib.crc32(TEXT.encode()):08x}',
        f"{primes} primes below 100",
        f"3^1000 mod (2^61 - 1) = {pow(3, 1000, (1 << 61) - 1)}",
        f"  -42|00042|{state:x}|%",
    ]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("make") is None, reason="needs gcc and make")
@pytest.mark.parametrize("optimisation", ["-O0", "-O2", "-O3", "-Os"])
def test_integers(optimisation: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for source in SOURCES.iterdir():
        if source.suffix != ".elf":
            shutil.copy(source, tmp_path)
    flags = _flags()
    command = ["make", "-s", "-C", str(tmp_path), f"CFLAGS={flags} {optimisation} -Werror", "integers.elf"]
    subprocess.run(command, check=True)
    assert main(["run", "--max-steps", str(STEPS), str(tmp_path / "integers.elf")]) == 0
    assert capfdbinary.readouterr().out.decode() == expected()


def _flags() -> str:
    """The Makefile's CFLAGS."""
    lines = (SOURCES / "Makefile").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("CFLAGS"))
