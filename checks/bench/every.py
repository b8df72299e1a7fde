"""All engines that can be measured."""

from __future__ import annotations

from collections.abc import Callable

from checks.bench.bochs import Bochs
from checks.bench.engines import Engine, Fast, Interpreter, Native, Reference, Unicorn
from refmodel.model import Model

ENGINES: dict[str, Callable[[Model], Engine]] = {
    engine.name: engine for engine in (Native, Fast, Interpreter, Unicorn, Bochs, Reference)
}
