"""The state of a symbolic run.

A scalar is a value. Indexed state and memory are chains of closures: an update keeps the old chain and answers
`if point == updated point then value else old(point)` when it is read, so that no array theory is needed.
Initial values come from a `Source` on first use: only what a run touches costs anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Value, choose, equal, key
from grammar.ir import Program, StateVariable, Type


class Elements(Protocol):
    """Indexed state, or the bytes of a memory: a function from points to values."""

    def read(self, point: Point) -> Value:
        """The element at a point."""
        ...


@dataclass(slots=True)
class Initial:
    """The elements as they were at the start: `element(point)`."""

    element: Callable[[Point], Value]
    _known: dict[object, Value] = field(default_factory=dict)

    def read(self, point: Point) -> Value:
        """The element at a point; each is made once."""
        at = tuple(key(index) for index in point)
        if at not in self._known:
            self._known[at] = self.element(point)
        return self._known[at]


@dataclass(slots=True)
class Updated:
    """`old` with one element replaced."""

    terms: Terms
    old: Elements
    point: Point
    value: Value
    point_types: tuple[Type, ...]
    type: Type

    def read(self, point: Point) -> Value:
        """The element at a point."""
        is_here = same_point(self.terms, point, self.point, self.point_types)
        if is_here is True:
            return self.value
        if is_here is False:
            return self.old.read(point)
        return choose(self.terms, is_here, self.value, self.old.read(point), self.type)


@dataclass(slots=True)
class Merged:
    """`then` where the condition held, `otherwise` where it did not."""

    terms: Terms
    condition: Truth
    then: Elements
    otherwise: Elements
    type: Type
    _known: dict[object, Value] = field(default_factory=dict)

    def read(self, point: Point) -> Value:
        """The element at a point; each is made once, since both sides may lead back to the same elements."""
        at = tuple(key(index) for index in point)
        if at not in self._known:
            then, otherwise = self.then.read(point), self.otherwise.read(point)
            self._known[at] = choose(self.terms, self.condition, then, otherwise, self.type)
        return self._known[at]


def same_point(terms: Terms, a: Point, b: Point, types: tuple[Type, ...]) -> Truth:
    """Whether two points are equal."""
    return terms.conjunction(equal(terms, x, y, t) for x, y, t in zip(a, b, types, strict=True))


class MemoryModel(Protocol):
    """How a memory of the spec is represented.  Widths are in bits, addresses in bytes."""

    def initial(self, name: str) -> Elements:
        """The elements at the start."""
        ...

    def read(self, elements: Elements, address: Vector, width: int) -> Vector:
        """`width` bits at an address."""
        ...

    def write(self, elements: Elements, address: Vector, value: Vector, width: int) -> Elements:
        """The elements after a write of `width` bits."""
        ...

    def element_type(self, name: str) -> Type:
        """The type of an element."""
        ...


class Source(Protocol):
    """Where the initial values of a run come from."""

    def scalar(self, variable: StateVariable) -> Value:
        """The initial value of a variable that is not indexed: by default, as of an element at no index."""
        return self.element(variable, ())

    def element(self, variable: StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        ...


@dataclass(slots=True)
class Surroundings:
    """What all states of one run share: the program, the builder, the initial state and the memory models."""

    program: Program
    terms: Terms
    source: Source
    memories: dict[str, MemoryModel]
    _initial: dict[str, Value | Elements] = field(default_factory=dict)

    def initial(self, name: str) -> Value | Elements:
        """The value at the start of a state variable or memory."""
        if name not in self._initial:
            self._initial[name] = self._first(name)
        return self._initial[name]

    def _first(self, name: str) -> Value | Elements:
        if name in self.memories:
            return self.memories[name].initial(name)
        variable = self.program.state[name]
        if variable.indices:
            return Initial(lambda point: self.source.element(variable, point))
        return self.source.scalar(variable)

    def type_of(self, name: str) -> Type:
        """The type of a variable, of an element if it is indexed."""
        return (
            self.memories[name].element_type(name) if name in self.memories else self.program.state[name].type
        )


@dataclass(slots=True)
class State:
    """Surroundings plus what was written.  `version` changes with each write: equal versions are equal states."""

    surroundings: Surroundings
    changed: dict[str, Value | Elements] = field(default_factory=dict)
    version: object = field(default_factory=object)

    def copy(self) -> State:
        """A state of its own with the same contents."""
        return State(self.surroundings, dict(self.changed), self.version)

    def get(self, name: str) -> Value:
        """A scalar."""
        return cast(Value, self._current(name))

    def elements(self, name: str) -> Elements:
        """An indexed variable or a memory."""
        return cast(Elements, self._current(name))

    def _current(self, name: str) -> Value | Elements:
        return self.changed[name] if name in self.changed else self.surroundings.initial(name)

    def set(self, name: str, value: Value | Elements) -> None:
        """Replaces a scalar, or all elements of an indexed variable or memory."""
        self.changed[name] = value
        self.version = object()

    def update(self, name: str, point: Point, value: Value) -> None:
        """Replaces one element of an indexed variable."""
        variable = self.surroundings.program.state[name]
        types = tuple(index.type for index in variable.indices)
        self.set(
            name, Updated(self.surroundings.terms, self.elements(name), point, value, types, variable.type)
        )


def merge(condition: Truth, then: State, otherwise: State) -> State:
    """The state that is `then` where the condition holds and `otherwise` where it does not."""
    if isinstance(condition, bool):
        return then if condition else otherwise
    if then.version is otherwise.version:
        return then
    surroundings = then.surroundings
    merged = State(surroundings, dict(otherwise.changed))
    for name in {**then.changed, **otherwise.changed}:
        merged.changed[name] = _merge_one(condition, name, then, otherwise)
    return merged


def _merge_one(condition: Truth, name: str, then: State, otherwise: State) -> Value | Elements:
    surroundings = then.surroundings
    type_ = surroundings.type_of(name)
    variable = surroundings.program.state.get(name)
    if variable is not None and not variable.indices:
        return choose(surroundings.terms, condition, then.get(name), otherwise.get(name), type_)
    a, b = then.elements(name), otherwise.elements(name)
    return a if a is b else Merged(surroundings.terms, condition, a, b, type_)


def value_at(state: State, variable: StateVariable, point: Point) -> Value:
    """The value of an item."""
    return state.elements(variable.name).read(point) if variable.indices else state.get(variable.name)
