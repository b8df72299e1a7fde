"""What the classes of the IR are: frozen dataclasses, but for where their methods come from.

The decorator writes and compiles the text of six methods for each class. With some sixty classes that takes as long as
reading a program from the cache does; here one set of methods serves them all, but for the constructor, which is made
when a class is first asked for a record.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Record:
    """A subclass is a frozen dataclass: for `fields`, `replace` and `match` too, and for a type checker.

    `later` names a field that may be absent at first: see `Later`.
    """

    _names: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[dict[str, Any]]
    _values: ClassVar[attrgetter[Any]]  # of all fields, with the class in front

    def __init_subclass__(cls, *, later: str = "") -> None:
        dataclass(init=False, repr=False, eq=False)(cls)
        described = fields(cls)  # type: ignore[arg-type]  # each subclass is one
        cls._names = tuple(field.name for field in described)
        cls._defaults = {field.name: field.default for field in described if field.default is not MISSING}
        cls._values = attrgetter("__class__", *cls._names)
        if later:
            setattr(cls, later, Later(later))

    def __init__(self, *values: Any, **named: Any) -> None:
        """The first record of a class brings the constructor that takes its fields."""
        cls = type(self)
        cls.__init__ = _constructor(cls._names, cls._defaults)  # type: ignore[method-assign]
        cls.__init__(self, *values, **named)

    def __eq__(self, other: object) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        values = self._values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(self._values(self))

    def __repr__(self) -> str:
        parts = (f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({', '.join(parts)})"

    def __setattr__(self, name: str, _: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")


class Later:
    """A field that is read when it is first looked at, by what its record has under SOURCE in place of it."""

    SOURCE = "_later"

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: Record | None, _: type[Record]) -> Any:
        if record is None or self.SOURCE not in vars(record):
            raise AttributeError(self._name)
        vars(record).pop(self.SOURCE)()
        return vars(record)[self._name]


def _constructor(names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """A method `__init__` with these parameters."""
    parameters = ", ".join(f"{name}=defaults['{name}']" if name in defaults else name for name in names)
    lines = [f"def __init__(self, {parameters}):", "    content = self.__dict__"]
    lines += (f"    content['{name}'] = {name}" for name in names)
    namespace: dict[str, Any] = {"defaults": defaults}
    exec("\n".join(lines), namespace)  # names of fields
    return namespace["__init__"]
