"""The fast model: the same machine, compiled to native code.

`handlers/` says what instructions do, in a restricted Python that `compiler/` compiles; `engine` runs a machine with
it. What has no handler runs in the specification itself: compiled by `reference/`, together with the VMM (`guests`),
or in the Python model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmodel.engine import FastEngine, Reason, coverage, ways
    from fastmodel.guests import GuestEngine

__all__ = ["FastEngine", "GuestEngine", "Reason", "coverage", "ways"]


def __getattr__(name: str) -> Any:
    """Loads the engine when it is first asked for, so that importing the package is quick."""
    if name not in __all__:
        raise AttributeError(name)
    from fastmodel import engine, guests

    return getattr(guests if name == "GuestEngine" else engine, name)
