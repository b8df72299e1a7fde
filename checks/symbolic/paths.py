"""Where control is, the ways out of a block, and how paths are merged.

All conditions are relative to the start of the block at hand; `rebase` turns them into conditions of the block
around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from checks.symbolic.state import State, merge
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, choose
from grammar.ir import Type
from grammar.source import Span

RETURN = "return"

Locals = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Exit:
    """One way out of a block: `kind` is `RETURN` or the name of an abort, `value` what it carries.

    `span` is the place of the statement, None where several were merged.
    """

    condition: Truth
    kind: str
    value: Value | None
    state: State
    locals: Locals
    span: Span | None

    def under(self, condition: Truth) -> Exit:
        """The same under another condition."""
        return Exit(condition, self.kind, self.value, self.state, self.locals, self.span)

    def with_locals(self, locals_: Locals) -> Exit:
        """The same with other locals."""
        return Exit(self.condition, self.kind, self.value, self.state, locals_, self.span)


Exits = list[Exit]


@dataclass(slots=True)
class Cursor:
    """Where control is: under `alive`, with this state and these locals.

    `types` holds the types of the locals of the function at hand, and is shared by all its cursors.
    """

    state: State
    locals: Locals
    types: dict[str, Type] = field(default_factory=dict)
    alive: Truth = True

    def fork(self, condition: Truth) -> Cursor:
        """A cursor for a branch, its `alive` relative to the point of the branch."""
        return Cursor(self.state.copy(), dict(self.locals), self.types, condition)

    def leave(self, kind: str, value: Value | None, span: Span | None, exits: Exits) -> None:
        """Ends the path here."""
        if self.alive is not False:
            # Nothing after a return looks at the locals; a catch does.
            locals_ = {} if kind == RETURN else dict(self.locals)
            exits.append(Exit(self.alive, kind, value, self.state.copy(), locals_, span))
        self.alive = False


class Paths:
    """Merging, with a builder of terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def narrow(self, cursor: Cursor, condition: Truth) -> None:
        """Goes on only where the condition holds."""
        cursor.alive = self.terms.conjunction((cursor.alive, condition))

    def rebase(self, own: Exits, cursor: Cursor, exits: Exits) -> None:
        """Adds exits that are relative to the cursor to those of its block."""
        for out in own:
            condition = self.terms.conjunction((cursor.alive, out.condition))
            if condition is not False:
                exits.append(out.under(condition))

    def join(self, condition: Truth, then: Cursor, otherwise: Cursor, cursor: Cursor) -> None:
        """Continues `cursor` after the two branches of a condition."""
        if then.alive is False or otherwise.alive is False:
            left = otherwise if then.alive is False else then
            self.narrow(cursor, left.alive)
            cursor.state, cursor.locals = left.state, {name: left.locals[name] for name in cursor.locals}
            return
        terms = self.terms
        is_complete = terms.same(then.alive, condition) and terms.same(
            otherwise.alive, terms.negation(condition)
        )
        if not is_complete:
            self.narrow(cursor, terms.disjunction((then.alive, otherwise.alive)))
        cursor.state = merge(condition, then.state, otherwise.state)
        cursor.locals = self._merge_locals(condition, then.locals, otherwise.locals, cursor)

    def merge_exits(self, exits: Sequence[Exit], type_: Type | None, scope: Cursor) -> Exit:
        """One exit for several that exclude each other; of the locals only those in scope remain."""
        *others, merged = exits
        merged = merged.with_locals({n: v for n, v in merged.locals.items() if n in scope.locals})
        for other in reversed(others):
            merged = self._merge_two(other, merged, type_, scope)
        return merged

    def _merge_two(self, a: Exit, b: Exit, type_: Type | None, scope: Cursor) -> Exit:
        terms = self.terms
        value = None
        if type_ is not None:
            value = choose(terms, a.condition, cast(Value, a.value), cast(Value, b.value), type_)
        state = merge(a.condition, a.state, b.state)
        condition = terms.disjunction((a.condition, b.condition))
        locals_ = self._merge_locals(a.condition, a.locals, b.locals, scope) if a.locals and b.locals else {}
        return Exit(condition, a.kind, value, state, locals_, None)

    def _merge_locals(self, condition: Truth, a: Locals, b: Locals, scope: Cursor) -> Locals:
        return {
            name: a[name] if a[name] is b[name] else self._merge_local(condition, name, a, b, scope)
            for name in scope.locals
        }

    def _merge_local(self, condition: Truth, name: str, a: Locals, b: Locals, scope: Cursor) -> Value:
        return choose(self.terms, condition, a[name], b[name], scope.types[name])
