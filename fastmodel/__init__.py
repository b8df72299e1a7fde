"""The fast model: the same machine, compiled to native code; it exits to the reference for what it does not know.

`handlers/` says what instructions do, in a restricted Python that `compiler/` compiles; `engine` runs a machine
with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmodel.engine import FastEngine, Reason, coverage

__all__ = ["FastEngine", "Reason", "coverage"]


def __getattr__(name: str) -> Any:
    """Loads the engine when it is first asked for, so that importing the package is quick."""
    if name not in __all__:
        raise AttributeError(name)
    from fastmodel import engine

    return getattr(engine, name)
