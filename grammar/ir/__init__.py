"""The typed IR: what a checked specification is, and all that any back end ever sees.

Every node is a frozen dataclass. An expression carries its type; widths are numbers, since each generic
function and instruction was checked once for every set of widths it is used with. State, functions and
instructions are named by strings, so a back end needs no symbol tables of its own.

The classes have no `__slots__`: without them a program is unpickled from the cache in half the time.
"""

# ruff: noqa: F403
from grammar.ir.expressions import *
from grammar.ir.items import *
from grammar.ir.statements import *
from grammar.ir.types import *
