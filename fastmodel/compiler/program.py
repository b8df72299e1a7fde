"""Collects the functions of a text, and finds what the names in them stand for.

A function specialised with bindings is an `Instance`; instances that differ only in parameters they do not
look at are one.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

from fastmodel.compiler import primitives
from fastmodel.compiler.primitives import Parameter, wrap

Meaning = int | FunctionType
Bindings = Mapping[str, Meaning]

WORDS: frozenset[object] = frozenset(
    {
        primitives.signed,
        primitives.unsigned,
        primitives.shift_right,
        primitives.below,
        primitives.bit,
        primitives.not_zero,
        primitives.high_product,
        primitives.signed_high_product,
        primitives.quotient,
        primitives.remainder,
        primitives.lowest_bit,
        primitives.highest_bit,
        primitives.get,
        primitives.put,
        primitives.load,
        primitives.store,
        primitives.field,
        primitives.set_field,
        primitives.invoke,
        primitives.proceed,
    }
)


class SubsetError(Exception):
    """A text is outside the restricted Python; the message names the place."""

    def __init__(self, message: str, file: str, line: int) -> None:
        super().__init__(f"{file}:{line}: {message}")


@dataclass(frozen=True)
class Source:
    """A function of a text as written, and the names it assigns or takes as parameters."""

    function: FunctionType
    tree: ast.FunctionDef
    file: str
    locals: frozenset[str]
    free: frozenset[str]

    def error(self, node: ast.AST, message: str) -> SubsetError:
        """An error at a place in this function."""
        return SubsetError(message, self.file, getattr(node, "lineno", self.tree.lineno))

    @cached_property
    def assigned(self) -> Counter[str]:
        """How many assignments there are to each name."""
        names = (node for node in ast.walk(self.tree) if isinstance(node, ast.Name))
        return Counter(node.id for node in names if isinstance(node.ctx, ast.Store))

    @cached_property
    def parameters_named(self) -> frozenset[str]:
        """The parameters of the program that the function names."""
        found = map(self.function.__globals__.get, self.free)
        return frozenset(value.name for value in found if isinstance(value, Parameter))

    @cached_property
    def callees(self) -> tuple[FunctionType, ...]:
        """The functions that it names, apart from what parameters stand for."""
        found = map(self.function.__globals__.get, self.free)
        return tuple(value for value in found if isinstance(value, FunctionType) and value not in WORDS)

    @cached_property
    def places(self) -> tuple[ast.expr, ...]:
        """What is added to the address of the state block."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.BinOp))
        return tuple(node.right for node in nodes if _is_place(node))

    @cached_property
    def has_loops(self) -> bool:
        """Whether an assignment may happen more than once."""
        return any(isinstance(node, ast.While) for node in ast.walk(self.tree))

    @cached_property
    def only_expression(self) -> ast.expr | None:
        """What a function returns that does nothing else, None for others."""
        body = self.tree.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]  # the documentation
        return body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None

    @property
    def parameters(self) -> list[str]:
        """The names of the function's arguments."""
        return [a.arg for a in self.tree.args.args]

    @property
    def returns_bool(self) -> bool:
        """Whether the function's result is a condition."""
        return isinstance(self.tree.returns, ast.Name) and self.tree.returns.id == "bool"

    @property
    def marks(self) -> set[str]:
        """The names of the decorators."""
        return {d.id for d in self.tree.decorator_list if isinstance(d, ast.Name)}


@cache
def _definitions(module: str, file: str) -> dict[str, ast.FunctionDef]:
    del module
    tree = ast.parse(Path(file).read_text("utf-8"), file)
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def source_of(function: FunctionType) -> Source:
    """The source of a function of a text."""
    file = inspect.getsourcefile(function) or "?"
    tree = _definitions(function.__module__, file).get(function.__name__)
    if tree is None:
        raise SubsetError(f"{function.__qualname__} is not a function of a module", file, 0)
    names = [n for statement in tree.body for n in ast.walk(statement) if isinstance(n, ast.Name)]
    stored = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {a.arg for a in tree.args.args}
    source = Source(function, tree, file, frozenset(stored), frozenset({n.id for n in names} - stored))
    arguments = tree.args
    if (
        arguments.vararg
        or arguments.kwarg
        or arguments.kwonlyargs
        or arguments.defaults
        or arguments.posonlyargs
    ):
        raise source.error(tree, f"{tree.name} may have plain parameters only")
    return source


def meaning(source: Source, name: str, bindings: Bindings) -> Meaning | None:
    """What a name that is not local stands for: a number, a function, or None if nothing usable."""
    value: Any = source.function.__globals__.get(name)
    if isinstance(value, Parameter):
        value = bindings.get(value.name)
    if isinstance(value, (int, FunctionType)):
        return value
    return None


@cache
def _named_below(function: FunctionType) -> frozenset[str]:
    """The parameters that a function names, or one that it calls whatever they stand for."""
    source = source_of(function)
    return source.parameters_named.union(*map(_named_below, source.callees))


def _looked_at(function: FunctionType, bindings: Bindings) -> set[str]:
    """The parameters that a function, or one that it calls, looks at."""
    names: set[str] = set()
    waiting = [function]
    while waiting:
        new = _named_below(waiting.pop()) - names
        names |= new
        bound = map(bindings.get, new)
        waiting += [value for value in bound if isinstance(value, FunctionType) and value not in WORDS]
    return names


@dataclass(frozen=True)
class Instance:
    """A function with its parameters bound; `pinned` if its caller holds the pinned words of the state block."""

    function: FunctionType
    bindings: tuple[tuple[str, Meaning], ...] = ()
    pinned: bool = False

    @property
    def source(self) -> Source:
        """The text of the function."""
        return source_of(self.function)

    @property
    def is_exported(self) -> bool:
        """Whether code outside of the module calls it too, by its own name: a slow function that is not specialised."""
        return "slow" in self.source.marks and not self.bindings

    def resolve(self, name: str) -> Meaning | None:
        """What a name in the function stands for."""
        return meaning(self.source, name, self._bound)

    @cached_property
    def _bound(self) -> Bindings:
        return dict(self.bindings)

    def number(self, name: str) -> int | None:
        """The number that a name stands for, None if it stands for something else."""
        named = None if name in self.source.locals else self.resolve(name)
        return named if isinstance(named, int) else None

    def number_of_call(self, _node: ast.Call) -> int | None:
        """No call is known before the text runs."""
        return None

    def callee(self, function: FunctionType) -> Instance:
        """The instance of a function that is called from this one."""
        return instance(function, self._bound)


@cache
def reaches(inside: Instance, offsets: frozenset[int]) -> bool:
    """Whether a function, or one that it calls, names a word of the state block at one of these offsets."""
    if any(fold(place, inside) in offsets for place in inside.source.places):
        return True
    callees = (inside.resolve(name) for name in inside.source.free)
    return any(
        reaches(inside.callee(callee), offsets)
        for callee in callees
        if isinstance(callee, FunctionType) and callee not in WORDS
    )


def offset_in_block(node: ast.AST, inside: Knows) -> int | None:
    """The number in `state + number`, None for anything else."""
    return fold(node.right, inside) if isinstance(node, ast.BinOp) and _is_place(node) else None


def _is_place(node: ast.BinOp) -> bool:
    """Whether this is an address in the state block."""
    return isinstance(node.left, ast.Name) and node.left.id == "state" and isinstance(node.op, ast.Add)


def instance(function: Callable[..., Any], bindings: Bindings | None = None) -> Instance:
    """A function specialised with those of the bindings that it looks at."""
    assert isinstance(function, FunctionType)
    given = bindings or {}
    used = sorted(_looked_at(function, given) & given.keys())
    return Instance(function, tuple((name, given[name]) for name in used))


@dataclass
class Names:
    """Gives every instance a readable name of its own; hands out each new instance once, in order of first use."""

    known: dict[Instance, str] = field(default_factory=dict)
    waiting: list[Instance] = field(default_factory=list)

    def of(self, wanted: Instance) -> str:
        """The name of an instance."""
        if wanted not in self.known:
            name = wanted.function.__name__
            self.known[wanted] = name if wanted.is_exported else f"{name}.{len(self.known)}"
            self.waiting.append(wanted)
        return self.known[wanted]

    def drain(self) -> Iterator[Instance]:
        """All instances named so far and, while this runs, those named meanwhile."""
        while self.waiting:
            yield self.waiting.pop()


_FOLDED_OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitXor: lambda a, b: a ^ b,
    ast.LShift: lambda a, b: a << (b & 63),
    ast.RShift: lambda a, b: a >> (b & 63),
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class Knows(Protocol):
    """What is known of names and calls when a text is compiled."""

    def number(self, name: str) -> int | None:
        """The number that a name stands for, if it does."""
        ...

    def number_of_call(self, node: ast.Call) -> int | None:
        """What a call returns, if that is known."""
        ...


def fold(node: ast.expr, inside: Knows) -> int | None:
    """The value of an expression made of what is known, None if it is not one."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return inside.number(name)
        case ast.Call():
            return inside.number_of_call(node)
        case ast.UnaryOp(op=operator, operand=operand):
            return _fold_unary(operator, fold(operand, inside))
        case ast.BinOp(left=left, op=operator, right=right):
            return _fold_binary(operator, fold(left, inside), fold(right, inside))
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _fold_binary(operator, fold(left, inside), fold(right, inside))
        case ast.BoolOp(op=operator, values=values):
            return _fold_chain(isinstance(operator, ast.And), [fold(v, inside) for v in values])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            chosen = fold(test, inside)
            return None if chosen is None else fold(body if chosen else orelse, inside)
    return None


def _fold_unary(operator: ast.unaryop, value: int | None) -> int | None:
    if value is None:
        return None
    match operator:
        case ast.USub():
            return wrap(-value)
        case ast.Invert():
            return ~value
        case ast.Not():
            return not value
    return None


def _fold_binary(operator: ast.AST, left: int | None, right: int | None) -> int | None:
    compute = _FOLDED_OPERATORS.get(type(operator))
    if compute is None or left is None or right is None:
        return None
    value = compute(left, right)
    return value if isinstance(value, bool) else wrap(value)


def _fold_chain(is_and: bool, values: list[int | None]) -> bool | None:
    """`and` and `or`: decided by the first value that decides them, if all before it are known."""
    for value in values:
        if value is None or bool(value) != is_and:
            return None if value is None else not is_and
    return is_and
