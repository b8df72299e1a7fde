"""A C program compiled by gcc runs on the reference and prints what the same computations in Python give."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from c_programs import SMALL, built, needs_compiler

from checks.cli import main

TEXT = "The quick brown fox jumps over the lazy dog"
MASK = (1 << 64) - 1
STEPS = 1_000_000
FULL = (200, 3000, 1500)  # as SMALL


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


@needs_compiler
@pytest.mark.parametrize(
    ("optimisation", "sizes"), [("-O0", SMALL), ("-O2", FULL), ("-O3", SMALL), ("-Os", SMALL)]
)
def test_integers(
    optimisation: str,
    sizes: tuple[int, int, int],
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    program = built(tmp_path, optimisation, sizes)
    assert main(["run", "--max-steps", str(STEPS), str(program)]) == 0
    assert capfdbinary.readouterr().out.decode() == expected(*sizes)
