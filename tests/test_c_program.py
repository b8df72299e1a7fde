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
STEPS = 1_000_000
FULL, SMALL = (200, 3000, 1500), (24, 100, 50)  # numbers to sort, primes up to, bytes to hash


def expected(count: int, limit: int, size: int) -> str:
    """What examples/c/integers.c prints."""
    state, numbers = 88172645463325252, []
    for _ in range(count):
        state ^= state << 13 & MASK
        state ^= state >> 7
        state ^= state << 17 & MASK
        numbers.append(state % 2001 - 1000)
    numbers.sort()
    shown = [numbers[i * count // 24] for i in range(24)]
    primes = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))
    bytes_ = (TEXT * (size // len(TEXT) + 1))[:size].encode()
    lines = [
        *(" ".join(map(str, shown[i : i + 8])) for i in range(0, 24, 8)),
        f'crc32("{TEXT}...") = {zlib.crc32(bytes_):08x}',
        f"{primes} primes below {limit}",
        f"3^1000 mod (2^61 - 1) = {pow(3, 1000, (1 << 61) - 1)}",
        f"  -42|00042|{state:x}|%",
    ]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("make") is None, reason="needs gcc and make")
@pytest.mark.parametrize(
    ("optimisation", "sizes"), [("-O0", SMALL), ("-O2", FULL), ("-O3", SMALL), ("-Os", SMALL)]
)
def test_integers(
    optimisation: str,
    sizes: tuple[int, int, int],
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    for source in SOURCES.iterdir():
        if source.suffix != ".elf":
            shutil.copy(source, tmp_path)
    names = zip(("COUNT", "LIMIT", "BYTES"), sizes, strict=True)
    defines = " ".join(f"-D{name}={value}" for name, value in names)
    flags = f"{_flags()} {optimisation} {defines} -Werror"
    command = ["make", "-s", "-C", str(tmp_path), f"CFLAGS={flags}", "integers.elf"]
    subprocess.run(command, check=True)
    assert main(["run", "--max-steps", str(STEPS), str(tmp_path / "integers.elf")]) == 0
    assert capfdbinary.readouterr().out.decode() == expected(*sizes)


def _flags() -> str:
    """The Makefile's CFLAGS."""
    lines = (SOURCES / "Makefile").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("CFLAGS"))
