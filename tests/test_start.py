"""What a command loads before it works: with a warm cache, nothing that is needed only to fill it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TO_BUILD = (
    "lark",  # parses the specification
    "grammar.check",
    "refmodel.generate.module",
    "fastmodel.groups",
    "fastmodel.handlers",
    "fastmodel.loop",
    "fastmodel.compiler.program",
    "fastmodel.reference.module",
    "fastmodel.translator.partial",
)
OTHERS = ("z3", "hypothesis", "unicorn", "elftools", "checks.prover", "checks.fuzz", "importlib.metadata")
LOADED = """
import sys
from checks.cli import main
assert main(sys.argv[1:]) == 0
print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("start") / "hello.bin"
    loaded("asm", str(ROOT / "examples/hello.asm"), "-o", str(path))
    return str(path)


def loaded(*arguments: str) -> set[str]:
    """The modules that a command has loaded when it ends."""
    command = [sys.executable, "-c", LOADED, *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    return set(ended.stderr.split())


def test_run_loads_what_runs(image: str) -> None:
    loaded("run", "--engine", "fast", image)  # now the cache is warm
    modules = loaded("run", "--engine", "fast", image)
    assert modules.isdisjoint((*TO_BUILD, *OTHERS, "rich"))
    assert "fastmodel.guests" in modules


def test_list_loads_what_lists() -> None:
    loaded("list")
    assert loaded("list").isdisjoint((*TO_BUILD, *OTHERS, "llvmlite", "refmodel.model"))


def test_help_loads_no_specification() -> None:
    code = "import sys, checks.cli; checks.cli._parser(None).format_help(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()).isdisjoint(("grammar", "refmodel", "fastmodel", "rich", *OTHERS))
