"""The project's specification with faults put into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import grammar
from grammar import ir


def with_faults(folder: Path, faults: Iterable[tuple[str, str, str]]) -> ir.Program:
    """The specification, written to `folder`, with faults.

    Each is a file without its suffix, a text that stands in it once, and a wrong text.
    """
    shutil.copytree(grammar.default_directory(), folder)
    for file, text, wrong in faults:
        path = folder / f"{file}.isa"
        whole = path.read_text()
        assert whole.count(text) == 1, text
        path.write_text(whole.replace(text, wrong))
    return grammar.load(folder)
