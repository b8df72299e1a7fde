"""Type-checks statements, and lowers them: loops unrolled, constant branches chosen, assignments to parts
of a value turned into assignments of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from grammar import ir
from grammar.context import Functions
from grammar.environment import CheckError, Environment, fail, suggestion
from grammar.expressions import ExpressionChecker
from grammar.fold import fold
from grammar.parse import Item
from grammar.scope import LocalName, Scope
from grammar.source import Span
from grammar.tree import Node

Statements = list[ir.Stmt]
_MAXIMUM_ITERATIONS = 512
_LEAVING = ("return_statement", "raise_statement")


class StatementChecker(ExpressionChecker):
    """Checks the statements of one body.  Errors of a statement are collected, and the next one is checked."""

    def __init__(
        self,
        env: Environment,
        functions: Functions,
        item: Item,
        scope: Scope,
        report: Callable[[CheckError], None],
    ) -> None:
        super().__init__(env, functions, item, scope)
        self.report = report
        self._statements: dict[str, Callable[[Node], Statements]] = {
            "do": lambda node: self.block(node.children[-1]),
            "let": self._let,
            "var": self._var,
            "assign": self._assign,
            "call_statement": self._call_statement,
            "if_statement": self._if,
            "for_statement": self._for,
            "return_statement": self._return,
            "check": self._check_clause,
            "require": self._require,
            "raise_statement": self._raise,
            "exit_statement": self._exit,
            "attempt": self._attempt,
            "forget": self._forget,
            "execute": self._execute,
            "dispatch": self._dispatch,
            "transfer_statement": self._transfer,
        }

    def block(self, node: Node) -> Statements:
        """The statements of a `block` tree."""
        return self.statements(node.children)

    def statements(self, nodes: Sequence[Node]) -> Statements:
        """The statements, in a scope of their own; each error is reported and the next statement checked."""
        result: Statements = []
        with self.scope.block():
            for node in nodes:
                try:
                    result += self._statements[node.data](node)
                except CheckError as error:
                    self.report(error)
                    self._poison(node)
        for node, following in pairwise(nodes):
            if node.data in _LEAVING:
                self.report(
                    fail(
                        "unreachable",
                        "no path comes here",
                        self.span(following),
                        [(self.span(node), "it leaves")],
                    )
                )
        return result

    def _poison(self, node: Node) -> None:
        if node.data in ("let", "var"):
            self.scope.locals[str(node.children[0])] = LocalName(None, True, self.span(node))

    # --- locals and assignment

    def _let(self, node: Node) -> Statements:
        name, value = node.children
        e = self.infer(value)
        self.declare(str(name), e.type, False, name)
        return [ir.SetLocal(self.span(node), str(name), e, True)]

    def _var(self, node: Node) -> Statements:
        name, type_, value = node.children
        e = (
            self.infer(value)
            if type_ is None
            else self.check(value, self.env.type(self.item, type_, self.scope.integers))
        )
        self.declare(str(name), e.type, True, name)
        return [ir.SetLocal(self.span(node), str(name), e, True)]

    def _assign(self, node: Node) -> Statements:
        target, value = node.children
        return [self._store(node, target, self.check(value, self._target_type(target)))]

    def _target_type(self, target: Node) -> ir.Type:
        """The type of what is assigned to, without reading it."""
        name = str(target.children[0]) if target.data == "name" else ""
        if name in self.scope.operands:
            operand = self.scope.operands[name]
            if operand.width is None:
                raise fail("operand", f"the operand '{name}' has no value to write", self.span(target))
            return ir.bits(operand.width)
        with _Unobserved(self.scope):
            return self.infer(target).type

    def _store(self, node: Node, target: Node, value: ir.Expr) -> ir.Stmt:
        span = self.span(node)
        match target.data:
            case "name":
                return self._store_name(span, target, str(target.children[0]), value)
            case "subscript":
                return self._store_subscript(node, target, value)
            case "slice":
                old = self.infer(target.children[0])
                high, low = self.slice_bounds(target, old.type)
                return self._store_bits(node, target.children[0], old, (high, low, value))
            case "attribute_of":
                return self._store_field(node, target, value)
        raise fail("assign", "this cannot be assigned to", self.span(target))

    def _store_name(self, span: Span, target: Node, name: str, value: ir.Expr) -> ir.Stmt:
        if name in self.scope.locals:
            local = self.scope.locals[name]
            if not local.mutable:
                raise fail(
                    "assign",
                    f"'{name}' is constant",
                    self.span(target),
                    notes=[(local.span, "declared here")],
                    hint="declare it with `var`",
                )
            return ir.SetLocal(span, name, value, False)
        self.scope.writes = True
        if name in self.scope.operands:
            self.scope.operands[name].writes = True
            self.scope.raises = True
            return ir.WriteOperand(span, name, value)
        if name in self.env.state:
            return ir.WriteState(span, name, (), value)
        raise fail("assign", f"'{name}' cannot be assigned to", self.span(target))

    def _store_subscript(self, node: Node, target: Node, value: ir.Expr) -> ir.Stmt:
        base, *arguments = target.children
        name = str(base.children[0]) if base.data == "name" else ""
        if name in self.env.state and self.env.state[name].indices:
            self.scope.writes = True
            return ir.WriteState(self.span(node), name, self.indices(target, name, arguments), value)
        if name in self.env.items and self.env.items[name].tree.data == "memory":
            self.scope.writes = True
            return ir.WriteMemory(self.span(node), name, self.memory_place(target, name, arguments)[0], value)
        old = self.infer(base)
        bit = self.env.integer(self.item, arguments[0], self.scope.integers)
        return self._store_bits(node, base, old, (bit, bit, value))

    def _store_bits(self, node: Node, base: Node, old: ir.Expr, change: tuple[int, int, ir.Expr]) -> ir.Stmt:
        if isinstance(old.type, (ir.Bool, ir.Struct)):
            raise fail("type", f"{old.type} has no bits", self.span(base))
        return self._store(node, base, ir.UpdateBits(old.type, old, (change,)))

    def _store_field(self, node: Node, target: Node, value: ir.Expr) -> ir.Stmt:
        base, name = target.children[0], str(target.children[1])
        old = self.infer(base)
        if isinstance(old.type, ir.Struct):
            return self._store(node, base, ir.UpdateStruct(old.type, old, ((name, value),)))
        if isinstance(old.type, ir.Bitfield) and (member := old.type.member(name)):
            return self._store_bits(node, base, old, (member.high, member.low, value))
        raise fail("assign", "this cannot be assigned to", self.span(target))

    def _call_statement(self, node: Node) -> Statements:
        call = node.children[0]
        output = self.functions.output(self, call)
        if output is not None:
            self.scope.writes = True
            return [output]
        return [ir.CallStatement(self.span(node), self.functions.call(self, call))]

    # --- control

    def _branch(
        self, span: Span, condition: ir.Expr, then: Statements, otherwise: Statements, clause: str = "if"
    ) -> Statements:
        if isinstance(condition, ir.Literal):
            return then if condition.value else otherwise
        return [ir.If(span, condition, tuple(then), tuple(otherwise), clause)]

    def _if(self, node: Node) -> Statements:
        children = [c for c in node.children if c is not None]
        return self._if_chain(self.span(node), children)

    def _if_chain(self, span: Span, children: list[Node]) -> Statements:
        if len(children) == 1:
            return self.block(children[0])
        if not children:
            return []
        condition = self.condition(children[0])
        # Of a constant condition only the chosen branch is checked: in a family, the other may not fit the member.
        if isinstance(condition, ir.Literal):
            return self.block(children[1]) if condition.value else self._if_chain(span, children[2:])
        then, otherwise = self.block(children[1]), self._if_chain(span, children[2:])
        return [ir.If(span, condition, tuple(then), tuple(otherwise))]

    def _for(self, node: Node) -> Statements:
        name, _, start_node, direction, stop_node, body = node.children
        start = self.env.integer(self.item, start_node, self.scope.integers)
        stop = self.env.integer(self.item, stop_node, self.scope.integers)
        step = -1 if direction.kind == "DOWNTO" else 1
        count = (stop - start) * step + 1
        if not 0 < count <= _MAXIMUM_ITERATIONS:
            raise fail(
                "loop",
                f"the loop runs {max(count, 0)} times; it must run 1 to {_MAXIMUM_ITERATIONS} times",
                self.span(node),
            )
        result: Statements = []
        outer = self.scope.integers
        for value in range(start, stop + step, step):
            self.scope.integers = {**outer, str(name): value}
            result += self.block(body)
        self.scope.integers = outer
        return result

    def _return(self, node: Node) -> Statements:
        value = node.children[0]
        wanted = self.scope.result
        if (value is None) != (wanted is None):
            message = (
                "this function returns nothing" if wanted is None else f"a value of {wanted} must be returned"
            )
            raise fail("return", message, self.span(node))
        return [
            ir.Return(self.span(node), None if value is None or wanted is None else self.check(value, wanted))
        ]

    def _check_clause(self, node: Node) -> Statements:
        condition = fold(ir.Unary(ir.BOOL, "not", self.condition(node.children[0])))
        call = self.functions.call(self, node.children[1])
        return self._branch(
            self.span(node), condition, [ir.CallStatement(self.span(node), call)], [], "check"
        )

    def _require(self, node: Node) -> Statements:
        if self.scope.result != ir.BOOL:
            raise fail("require", "`require` stands in a step", self.span(node))
        condition = fold(ir.Unary(ir.BOOL, "not", self.condition(node.children[0])))
        refuse = ir.Return(self.span(node), ir.Literal(ir.BOOL, 0))
        return self._branch(self.span(node), condition, [refuse], [], "require")

    def _raise(self, node: Node) -> Statements:
        value = self.infer(node.children[0])
        if not isinstance(value.type, ir.Struct) or value.type.name not in self.functions.aborts():
            raise fail(
                "raise", f"{value.type} is no abort", self.span(node), hint="raise a value of an `abort` item"
            )
        self.scope.raises = True
        return [ir.Raise(self.span(node), value.type.name, value)]

    def _exit(self, node: Node) -> Statements:
        reason, assignments, condition = node.children
        kind, guard = self.functions.exit_abort(self.span(node))
        _, reason_type = kind.fields[0]
        if not isinstance(reason_type, ir.Enum) or str(reason) not in dict(reason_type.members):
            known = dict(reason_type.members) if isinstance(reason_type, ir.Enum) else {}
            raise fail(
                "exit",
                f"'{reason}' is no member of {reason_type}",
                self.span(reason),
                hint=suggestion(str(reason), known),
            )
        changes = self.assignments(assignments)
        payload = self.make(kind, changes, self.span(node))
        assert isinstance(payload, ir.MakeStruct)
        values = (ir.Literal(reason_type, dict(reason_type.members)[str(reason)]), *payload.values[1:])
        if condition is not None:
            with self.scope.conditional():
                guard = fold(ir.Binary(ir.BOOL, "and", guard, self.condition(condition)))
        self.scope.raises = True
        span = self.span(node)
        return self._branch(span, guard, [ir.Raise(span, kind.name, ir.MakeStruct(kind, values))], [], "exit")

    def _attempt(self, node: Node) -> Statements:
        body, *catches = node.children
        raised_before, self.scope.raises = self.scope.raises, False
        inner = self.block(body)
        handled: list[ir.Catch] = []
        # Kinds are not counted: where a clause for some kind is missing, the attempt is taken to raise.
        self.scope.raises = raised_before or len(catches) < len(self.functions.aborts())
        for clause in catches:
            kind, name, block = clause.children
            type_ = self.env.named_type(str(kind), self.span(clause))
            if str(kind) not in self.functions.aborts() or not isinstance(type_, ir.Struct):
                raise fail("raise", f"{kind} is no abort", self.span(clause))
            with self.scope.block():
                if name is not None:
                    self.declare(str(name), type_, False, name)
                handled.append(ir.Catch(str(kind), str(name or "_"), tuple(self.block(block))))
        return [ir.Attempt(self.span(node), tuple(inner), tuple(handled))]

    def _forget(self, node: Node) -> Statements:
        what = node.children[0]
        name, *given = what.children if isinstance(what, Node) else [what]
        if not self.functions.is_cached(str(name)):
            raise fail("forget", f"'{name}' is no cached function", self.span(node))
        self.scope.writes = True
        arguments = [argument for argument in given if argument is not None]
        keys = self.functions.first_keys(str(name), len(arguments), self.span(node))
        values = tuple(self.check(a, key.type) for a, key in zip(arguments, keys, strict=True))
        return [ir.Forget(self.span(node), str(name), values)]

    def _execute(self, node: Node) -> Statements:
        self.scope.raises = self.scope.writes = True
        return [ir.Execute(self.span(node))]

    def _dispatch(self, node: Node) -> Statements:
        kind, _ = self.functions.exit_abort(self.span(node))
        self.scope.writes = True
        return [ir.Dispatch(self.span(node), self.check(node.children[0], kind.fields[0][1]))]

    def transfer_row(self, row: Node, target: Node, source: Node, condition: Node | None) -> Statements:
        """`target := source when condition`."""
        copy = self._store(row, target, self.check(source, self._target_type(target)))
        if condition is None:
            return [copy]
        return self._branch(self.span(row), self.condition(condition), [copy], [])

    def _transfer(self, node: Node) -> Statements:
        direction, name = (str(c) for c in node.children)
        return [
            ir.CallStatement(
                self.span(node), self.functions.transfer(self, f"{direction}_{name}", self.span(node))
            )
        ]


class _Unobserved:
    """Typing an assignment's target must not count as reading it."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __enter__(self) -> None:
        self.reads = {n: o.reads for n, o in self.scope.operands.items()}
        self.raises = self.scope.raises

    def __exit__(self, *_: object) -> None:
        for name, reads in self.reads.items():
            self.scope.operands[name].reads = reads
        self.scope.raises = self.raises


def always_leaves(statements: Sequence[ir.Stmt], diverges: Callable[[str], bool]) -> bool:
    """Whether each path returns or raises.  `diverges` tells a function that never returns."""
    for statement in statements:
        match statement:
            case ir.Return() | ir.Raise():
                return True
            case ir.CallStatement(_, call) if diverges(call.function):
                return True
            case ir.If(_, _, then, otherwise):
                if always_leaves(then, diverges) and always_leaves(otherwise, diverges):
                    return True
            case ir.Attempt(_, body, catches):
                if always_leaves(body, diverges) and all(always_leaves(c.body, diverges) for c in catches):
                    return True
    return False
