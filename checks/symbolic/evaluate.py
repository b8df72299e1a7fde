"""Runs functions and statements symbolically, every path at once.

A block runs on a `Cursor`; branches run on copies of it and are merged where they meet again, and what leaves a block
becomes an `Exit`. A call's outcome does not depend on the path that led to it, so that the outcomes of pure functions
are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

from checks.symbolic.expressions import ExpressionEvaluator, UnsupportedError, width_of_expression
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits, Paths
from checks.symbolic.state import State
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Value, build, key, literal
from grammar import ir

Block = Callable[[Cursor, Exits], object]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function that is replaced: in which run, and where control is; `exits` gets what it raises."""

    evaluator: Evaluator
    function: ir.Function
    arguments: tuple[Value, ...]
    cursor: Cursor
    exits: Exits

    @property
    def state(self) -> State:
        """The state at the call, which it may change."""
        return self.cursor.state

    @property
    def typed_arguments(self) -> list[tuple[Value, ir.Type]]:
        """The arguments with the types of their parameters."""
        return [(a, p.type) for a, p in zip(self.arguments, self.function.parameters, strict=True)]

    def argument(self, name: str) -> Value:
        """The argument for a parameter."""
        names = [parameter.name for parameter in self.function.parameters]
        return self.arguments[names.index(name)]

    def abort(self, kind: str, condition: Truth, value: Value) -> None:
        """Raises an abort where a condition holds."""
        self.evaluator.abort(kind, condition, value, self.cursor, self.exits)


Override = Callable[[Call], Value | None]
"""Replaces the body of a function: returns its result, may change the state and raise."""


@dataclass(slots=True)
class Evaluator(ExpressionEvaluator):
    """Evaluates one run.  `overrides` are keyed by the source name of the function they replace.

    `outputs` collects what `output`s were made: (condition relative to the block, name, arguments).
    """

    overrides: dict[str, Override] = field(default_factory=dict)
    outputs: list[tuple[Truth, str, tuple[Value, ...]]] = field(default_factory=list)
    _known: dict[object, Value] = field(default_factory=dict)
    _paths: Paths = field(init=False)

    def __post_init__(self) -> None:
        self._paths = Paths(self.terms)

    # --- calls -----------------------------------------------------------------------------------

    def call(
        self, function: ir.Function, arguments: tuple[Value, ...], cursor: Cursor, exits: Exits
    ) -> Value | None:
        """Runs a function on the cursor and returns its result; what it raises is added to `exits`."""
        for parameter, argument in zip(function.parameters, arguments, strict=True):
            self.touched.argument(parameter, argument)
        override = self.overrides.get(function.source)
        if override is not None:
            return override(Call(self, function, arguments, cursor, exits))
        if function.raises or function.writes or function.result is None:
            return self._inline(function, arguments, cursor, exits)
        at = (function.name, tuple(key(a) for a in arguments), cursor.state.version)
        if at not in self._known:
            self._known[at] = cast(Value, self._inline(function, arguments, cursor, exits))
        return self._known[at]

    def _inline(
        self, function: ir.Function, arguments: tuple[Value, ...], cursor: Cursor, exits: Exits
    ) -> Value | None:
        locals_ = {p.name: a for p, a in zip(function.parameters, arguments, strict=True)}
        inner = Cursor(cursor.state.copy(), locals_, {p.name: p.type for p in function.parameters})
        own: Exits = []
        self.run(function.body, inner, own)
        inner.leave(RETURN, None, None, own)
        returns = [e for e in own if e.kind == RETURN]
        self._paths.rebase([e.with_locals(cursor.locals) for e in own if e.kind != RETURN], cursor, exits)
        if not returns:
            cursor.alive = False
            return None if function.result is None else self._any(function.result)
        if len(returns) < len(own):
            self._paths.narrow(cursor, self.terms.disjunction(e.condition for e in returns))
        merged = self._paths.merge_exits(returns, function.result, inner)
        cursor.state = merged.state
        return merged.value

    def _any(self, type_: ir.Type) -> Value:
        """Some value, for a result that is never used."""
        return build(type_, "", lambda _name, leaf: literal(leaf, 0))

    def abort(self, kind: str, condition: Truth, value: Value, cursor: Cursor, exits: Exits) -> None:
        """Raises an abort where a condition holds; for overrides."""
        if condition is not False:
            taken = Exit(condition, kind, value, cursor.state.copy(), dict(cursor.locals), None)
            self._paths.rebase([taken], cursor, exits)
            self._paths.narrow(cursor, self.terms.negation(condition))

    def merge_aborts(self, exits: Exits, kind: str, scope: Cursor) -> Exit | None:
        """All exits of a kind of abort as one, None if there is none."""
        own = [e for e in exits if e.kind == kind]
        return self._paths.merge_exits(own, self.program.aborts[kind].type, scope) if own else None

    def merge_returns(self, returns: Exits, scope: Cursor) -> Exit:
        """All returns, at least one, as one."""
        return self._paths.merge_exits(returns, None, scope)

    # --- statements ------------------------------------------------------------------------------

    def run(self, body: Sequence[ir.Stmt], cursor: Cursor, exits: Exits) -> None:
        """Runs a block on the cursor; `cursor.alive` is False if control does not reach its end."""
        for statement in body:
            if cursor.alive is False:
                return
            self._STATEMENTS[type(statement)](self, statement, cursor, exits)

    def _set_local(self, s: ir.SetLocal, cursor: Cursor, exits: Exits) -> None:
        cursor.locals[s.name] = self.evaluate(s.value, cursor, exits)
        cursor.types[s.name] = s.value.type

    def _write_state(self, s: ir.WriteState, cursor: Cursor, exits: Exits) -> None:
        # The value first: a call in it may replace the cursor's state.
        if not s.indices:
            value = self.evaluate(s.value, cursor, exits)
            cursor.state.set(s.name, value)
            return
        point = self._point(s.name, s.indices, cursor, exits)
        value = self.evaluate(s.value, cursor, exits)
        cursor.state.update(s.name, point, value)

    def _write_memory(self, s: ir.WriteMemory, cursor: Cursor, exits: Exits) -> None:
        address, value = (cast(Vector, v) for v in self._values((s.address, s.value), cursor, exits))
        self.touched.element(s.memory, (address,))
        memory = cursor.state.surroundings.memories[s.memory]
        old = cursor.state.elements(s.memory)
        cursor.state.set(s.memory, memory.write(old, address, value, width_of_expression(s.value)))

    def _write_operand(self, s: ir.WriteOperand, cursor: Cursor, exits: Exits) -> None:
        value = self.evaluate(s.value, cursor, exits)
        self._operands.write(s.name, value, cursor, exits)

    def _call_statement(self, s: ir.CallStatement, cursor: Cursor, exits: Exits) -> None:
        function = self.program.functions[s.call.function]
        self.call(function, self._values(s.call.arguments, cursor, exits), cursor, exits)

    def _if(self, s: ir.If, cursor: Cursor, exits: Exits) -> None:
        condition = cast(Truth, self.evaluate(s.condition, cursor, exits))
        if isinstance(condition, bool):
            self.run(s.then if condition else s.otherwise, cursor, exits)
            return
        self.either(
            condition,
            lambda branch, out: self.run(s.then, branch, out),
            lambda branch, out: self.run(s.otherwise, branch, out),
            cursor,
            exits,
        )

    def either(self, condition: Truth, then: Block, otherwise: Block, cursor: Cursor, exits: Exits) -> None:
        """Runs one block where the condition holds and the other where it does not."""
        first = self._branch(then, condition, cursor, exits)
        second = self._branch(otherwise, self.terms.negation(condition), cursor, exits)
        self._paths.join(condition, first, second, cursor)

    def _branch(self, block: Block, condition: Truth, cursor: Cursor, exits: Exits) -> Cursor:
        branch = cursor.fork(condition)
        own: Exits = []
        block(branch, own)
        self._paths.rebase(own, cursor, exits)
        return branch

    def _return(self, s: ir.Return, cursor: Cursor, exits: Exits) -> None:
        value = None if s.value is None else self.evaluate(s.value, cursor, exits)
        cursor.leave(RETURN, value, s.span, exits)

    def _raise(self, s: ir.Raise, cursor: Cursor, exits: Exits) -> None:
        cursor.leave(s.kind, self.evaluate(s.value, cursor, exits), s.span, exits)

    def _attempt(self, s: ir.Attempt, cursor: Cursor, exits: Exits) -> None:
        body = cursor.fork(condition=True)
        own: Exits = []
        self.run(s.body, body, own)
        ends = [body]
        for catch in s.catches:
            caught = self.merge_aborts(own, catch.kind, cursor)
            own = [e for e in own if e.kind != catch.kind]
            if caught is not None:
                ends.append(self._catch(catch, caught, cursor, exits))
        self._paths.rebase(own, cursor, exits)
        self._continue([end for end in ends if end.alive is not False], cursor)

    def _catch(self, catch: ir.Catch, caught: Exit, cursor: Cursor, exits: Exits) -> Cursor:
        cursor.types[catch.name] = self.program.aborts[catch.kind].type
        locals_ = {**caught.locals, catch.name: cast(Value, caught.value)}
        branch = Cursor(caught.state.copy(), locals_, cursor.types, caught.condition)
        own: Exits = []
        self.run(catch.body, branch, own)
        self._paths.rebase(own, cursor, exits)
        return branch

    def _continue(self, ends: list[Cursor], cursor: Cursor) -> None:
        """Goes on from where the body or a catch ended; the ends exclude each other."""
        if not ends:
            cursor.alive = False
            return
        arrivals = [Exit(end.alive, RETURN, None, end.state, end.locals, None) for end in ends]
        merged = self._paths.merge_exits(arrivals, None, cursor)
        self._paths.narrow(cursor, merged.condition)
        cursor.state, cursor.locals = merged.state, merged.locals

    def _forget(self, s: ir.Forget, cursor: Cursor, exits: Exits) -> None:
        """Nothing: a cached function is inlined, so that it never remembers anything."""

    def _output(self, s: ir.Output, cursor: Cursor, exits: Exits) -> None:
        self.outputs.append((cursor.alive, s.name, self._values(s.arguments, cursor, exits)))

    def _unsupported(self, s: ir.Stmt, _cursor: Cursor, _exits: Exits) -> None:
        raise UnsupportedError(f"{s.span}: {type(s).__name__.lower()} cannot be part of a proof")

    _STATEMENTS: ClassVar[dict[type, Callable[..., None]]] = {
        ir.SetLocal: _set_local,
        ir.WriteState: _write_state,
        ir.WriteMemory: _write_memory,
        ir.WriteOperand: _write_operand,
        ir.CallStatement: _call_statement,
        ir.If: _if,
        ir.Return: _return,
        ir.Raise: _raise,
        ir.Attempt: _attempt,
        ir.Forget: _forget,
        ir.Execute: _unsupported,
        ir.Dispatch: _unsupported,
        ir.Output: _output,
    }
