"""The names that the generated module uses."""

from __future__ import annotations

import builtins
import keyword

from grammar.ir import Bitfield, Bits, Bool, Enum, Newtype, Program, Struct, Type

MACHINE = "m"  # the first parameter of every generated function
# Other names that generated code uses.
_RUNTIME = frozenset(
    {
        "Abort",
        "IndexedState",
        "NamedTuple",
        "Processor",
        "Remembered",
        "divide",
        "key",
        "known",
        "remainder",
        "shift_left",
    }
)


class Names:
    """Turns names of the specification into Python names that do not collide."""

    def __init__(self, program: Program) -> None:
        self._globals = {
            *program.functions,
            *program.aborts,
            *program.types,
            *program.constants,
            MACHINE,
            *_RUNTIME,
        }
        self._reserved = self._globals | set(keyword.kwlist) | set(dir(builtins))

    def local(self, name: str) -> str:
        """A parameter or local variable."""
        plain = name.replace("#", "_")
        return f"{plain}_" if plain in self._reserved else plain

    @staticmethod
    def function(name: str) -> str:
        """A function."""
        return f"{name}_" if keyword.iskeyword(name) else name

    @staticmethod
    def field(name: str) -> str:
        """A field of a struct."""
        return f"{name}_" if keyword.iskeyword(name) else name


def enum_constant(type_: Enum, member: str) -> str:
    """The module's constant for a member of an enum."""
    return f"{type_.name}_{member}"


def field_mask(type_: Bitfield, member: str) -> str:
    """The module's constant with the bits of a bitfield's member set."""
    return f"{type_.name}_{member}"


def mask_name(width: int) -> str:
    """The module's constant with `width` ones."""
    return f"MASK_{width}"


def abort_exception(name: str) -> str:
    """The exception class that carries the struct of an abort."""
    return f"{name}Abort"


def cache_attribute(function: str) -> str:
    """Where the machine keeps the results of a cached function."""
    return f"cache_{function}"


def annotation(type_: Type | None) -> str:
    """The Python type of a value."""
    match type_:
        case None:
            return "None"
        case Bool():
            return "bool"
        case Struct(name=name):
            return name
        case Bits() | Newtype() | Enum() | Bitfield():
            return "int"
