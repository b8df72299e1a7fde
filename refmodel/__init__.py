"""The reference model: the specification as readable Python that runs.

`load` gives the model of a specification directory, `build` that of any program; `Model.machine` makes machines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refmodel.model import Model

__all__ = ["load"]


def load(directory: Path | None = None) -> Model:
    """The model of the specification under `directory` (default: the project's), by way of the cache."""
    from grammar import load as load_program
    from refmodel.model import build

    program = load_program(directory)
    return build(program, program.key)
