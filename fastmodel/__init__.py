"""The fast model: the same machine, compiled to native code.

`handlers/` says what instructions do, in a restricted Python that `compiler/` compiles; `engine` runs a machine with
it. What has no handler runs in the specification itself: compiled by `reference/`, together with the VMM (`guests`),
or in the Python model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmodel.engine import FastEngine, Reason
    from fastmodel.guests import GuestEngine
    from fastmodel.handled import coverage, ways

__all__ = ["FastEngine", "GuestEngine", "Reason", "coverage", "ways"]


_MODULES = {
    "FastEngine": "engine",
    "GuestEngine": "guests",
    "Reason": "engine",
    "coverage": "handled",
    "ways": "handled",
}


def __getattr__(name: str) -> Any:
    """Loads a module when something of it is first asked for, so that importing the package is quick."""
    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(import_module(f"fastmodel.{_MODULES[name]}"), name)
