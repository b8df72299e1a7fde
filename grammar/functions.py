"""Functions and their instances: a generic function is checked once for each set of widths it is called with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from grammar import ir
from grammar.context import Context
from grammar.environment import CheckError, Environment, fail, suggestion, width_of
from grammar.expressions import ExpressionChecker
from grammar.parse import Item
from grammar.scope import LocalName, Scope
from grammar.source import Span
from grammar.statements import StatementChecker, always_leaves
from grammar.tree import Node


@dataclass(frozen=True)
class Declaration:
    """A function, step, handler or transfer as declared.  `kind` is the item's word."""

    item: Item
    name: str
    kind: str
    parameters: tuple[Node, ...]
    result: Node | None
    body: Node
    cached: bool = False
    keys: tuple[Node, ...] = ()

    @cached_property
    def is_generic(self) -> bool:
        """Whether widths are found from the arguments of a call."""
        types = [type_ for _name, type_ in (parameter.children for parameter in self.parameters)]
        return any(_is_width(t) or (t is not None and _free_width(t, {}) is not None) for t in types)


@dataclass(slots=True)
class FunctionTable:
    """All declared functions, and the instances checked so far (callees before callers)."""

    env: Environment
    report: Callable[[CheckError], None]
    declarations: dict[str, Declaration] = field(default_factory=dict)
    outputs: dict[str, ir.OutputDeclaration] = field(default_factory=dict)
    instances: dict[str, ir.Function] = field(default_factory=dict)
    abort_items: dict[str, Item] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    _pending: list[str] = field(default_factory=list)
    _diverging: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _sites: Counter[str] = field(default_factory=Counter)
    _exit: tuple[ir.Struct, ir.Expr] | None = None

    # --- what bodies ask (the protocol Functions)

    def undefined_site(self, item: Item) -> str:
        """A name that no other `undefined` of the program has; it does not change with other items."""
        name = str(next(item.tree.tokens()))
        self._sites[name] += 1
        return f"{name}.{self._sites[name]}"

    def rule_groups(self) -> set[str]:
        """The names of the rule groups."""
        return self.groups

    def aborts(self) -> set[str]:
        """The names of the aborts."""
        return set(self.abort_items)

    def is_cached(self, name: str) -> bool:
        """Whether a function is declared `cached`."""
        return name in self.declarations and self.declarations[name].cached

    def first_keys(self, name: str, count: int, span: Span) -> tuple[ir.Expr, ...]:
        """The first keys under which a cached function remembers its results."""
        keys = self.instance(self.declarations[name], {}, span).keys if count else ()
        if count > len(keys):
            raise fail("forget", f"'{name}' remembers its results by {len(keys)} value(s), not {count}", span)
        return keys[:count]

    def diverges(self, instance: str) -> bool:
        """Whether an instance never returns: it always raises."""
        return instance in self._diverging

    def exit_abort(self, span: Span) -> tuple[ir.Struct, ir.Expr]:
        """The abort that `exit` raises, and its guard."""
        if self._exit is None:
            guarded = [i for i in self.abort_items.values() if i.tree.children[1] is not None]
            if len(guarded) != 1:
                raise fail("exit", "`exit` needs exactly one abort with a `when`", span)
            item = guarded[0]
            type_ = self.env.named_type(str(item.tree.children[0]), item.span(item.tree))
            assert isinstance(type_, ir.Struct)
            guard = ExpressionChecker(self.env, self, item, Scope()).condition(item.tree.children[1])
            self._exit = type_, guard
        return self._exit

    def output(self, checker: Context, node: Node) -> ir.Output | None:
        """The call as an output, if that is what its name declares."""
        declaration = self.outputs.get(str(node.children[0]))
        if declaration is None:
            return None
        arguments = _arguments(node)
        _same_count(checker, node, declaration.name, len(declaration.parameters), len(arguments))
        values = tuple(
            checker.check(a, p.type) for a, p in zip(arguments, declaration.parameters, strict=True)
        )
        return ir.Output(checker.span(node), declaration.name, values)

    def transfer(self, checker: Context, name: str, span: Span) -> ir.Call:
        """A call of `load_NAME` or `save_NAME`."""
        if name not in self.declarations or self.declarations[name].kind != "transfer":
            raise fail("name", f"there is no transfer '{name.partition('_')[2]}'", span)
        instance = self.instance(self.declarations[name], {}, span)
        checker.scope.writes = True
        return ir.Call(ir.NOTHING, instance.name, ())

    def call(self, checker: Context, node: Node) -> ir.Call:
        """A typed call; checks the instance for these widths if it is new."""
        name = str(node.children[0])
        declaration = self.declarations.get(name)
        if declaration is None:
            if name in self.env.suspects:
                raise CheckError(None)
            known = [*self.declarations, *self.outputs]
            raise fail(
                "name",
                f"unknown function '{name}'",
                checker.span(node),
                hint=suggestion(name, known),
            )
        arguments = _arguments(node)
        _same_count(checker, node, name, len(declaration.parameters), len(arguments))
        widths, values = self._match(checker, declaration, arguments)
        function = self.instance(declaration, widths, checker.span(node))
        if function.raises or function.writes:
            checker.no_effects_here(node, f"'{name}'")
        checker.scope.raises |= function.raises
        checker.scope.writes |= function.writes
        return ir.Call(function.result or ir.NOTHING, function.name, values)

    def _match(
        self, checker: Context, declaration: Declaration, arguments: list[Node]
    ) -> tuple[dict[str, int], tuple[ir.Expr, ...]]:
        """Width parameters found from the arguments, and the other arguments checked."""
        widths: dict[str, int] = {}
        values: dict[int, ir.Expr] = {}
        pairs = list(enumerate(zip(declaration.parameters, arguments, strict=True)))
        if declaration.is_generic:
            for _, (parameter, argument) in pairs:
                name, type_ = parameter.children
                if _is_width(type_):
                    widths[str(name)] = checker.width(argument)
            # Arguments that have a type of their own first: integers take the widths these bring.
            pairs.sort(key=lambda p: checker.needs_context(p[1][1]))
        for index, (parameter, argument) in pairs:
            _name, type_ = parameter.children
            if _is_width(type_):
                continue
            free = _free_width(type_, widths)
            if free is None:
                values[index] = checker.check(argument, self.env.type(declaration.item, type_, widths))
                continue
            value = checker.infer(argument)
            if not isinstance(value.type, ir.Bits):
                place = (declaration.item.span(parameter), "the parameter")
                hint = "convert with `as bits(…)`" if width_of(value.type) is not None else ""
                raise fail(
                    "type",
                    f"expected bits({free}), found {value.type}",
                    checker.span(argument),
                    [place],
                    hint,
                )
            widths[free] = value.type.width
            values[index] = value
        return widths, tuple(values[i] for i in sorted(values))

    # --- instances

    def instance(self, declaration: Declaration, widths: dict[str, int], span: Span) -> ir.Function:
        """The function for these widths, checked now if it is new; `span` is the place that asks for it."""
        name = "_".join([_identifier(declaration.name), *(str(w) for w in widths.values())])
        if name in self.instances:
            return self.instances[name]
        if name in self._failed:
            raise CheckError(None)
        if name in self._pending:
            chain = " → ".join([*self._pending[self._pending.index(name) :], name])
            raise fail("recursion", f"functions may not be recursive: {chain}", span)
        self._pending.append(name)
        try:
            function = self._check(declaration, widths, name)
        except CheckError:
            self._failed.add(name)
            raise
        finally:
            self._pending.pop()
        self.instances[name] = function
        if always_leaves(function.body, self.diverges) and function.raises and not _returns(function.body):
            self._diverging.add(name)
        return function

    def _check(self, declaration: Declaration, widths: dict[str, int], name: str) -> ir.Function:
        item = declaration.item
        scope = Scope(integers=dict(widths))
        result = None if declaration.result is None else self.env.type(item, declaration.result, widths)
        scope.result = ir.BOOL if declaration.kind == "step" else result
        parameters = []
        for parameter in declaration.parameters:
            parameter_name, type_ = parameter.children
            if _is_width(type_):
                continue
            if type_ is None:
                raise fail("type", f"the parameter '{parameter_name}' needs a type", item.span(parameter))
            checked = ir.Parameter(str(parameter_name), self.env.type(item, type_, widths))
            parameters.append(checked)
            scope.locals[checked.name] = LocalName(checked.type, False, item.span(parameter_name))
        found: list[CheckError] = []
        checker = StatementChecker(self.env, self, item, scope, found.append)
        keys = tuple(checker.infer(key) for key in declaration.keys)
        body = (
            checker.block(declaration.body)
            if declaration.kind != "transfer"
            else _transfer_body(checker, declaration)
        )
        for error in found:
            self.report(error)
        place = item.span(item.tree)
        if declaration.kind == "step":
            body.append(ir.Return(place, ir.Literal(ir.BOOL, 1)))
        elif result is not None and not found and not always_leaves(body, self.diverges):
            raise fail(
                "return", f"'{declaration.name}' does not return a value on every path", _header(place)
            )
        return ir.Function(
            span=place,
            doc=item.doc,
            name=name,
            source=declaration.name,
            widths=tuple(widths.items()),
            parameters=tuple(parameters),
            result=scope.result,
            body=tuple(body),
            cached=declaration.cached,
            raises=scope.raises,
            writes=scope.writes,
            keys=keys or _parameters_as_keys(declaration, parameters),
        )


def _transfer_body(checker: StatementChecker, declaration: Declaration) -> list[ir.Stmt]:
    """The rows of a transfer as assignments, in the direction that the name says."""
    result: list[ir.Stmt] = []
    saves = declaration.name.startswith("save_")
    for row in declaration.body.children:
        left, right, condition = row.children
        target, source = (right, left) if saves else (left, right)
        try:
            result += checker.transfer_row(row, target, source, condition)
        except CheckError as error:
            checker.report(error)
    return result


def _parameters_as_keys(declaration: Declaration, parameters: list[ir.Parameter]) -> tuple[ir.Expr, ...]:
    """What a cached function without `by` remembers its results under."""
    return tuple(ir.Local(p.type, p.name) for p in parameters) if declaration.cached else ()


def declare_function(item: Item) -> Declaration:
    """A `function` item."""
    cached, name, parameters, result, keys, body = item.tree.children
    by = () if keys is None else tuple(keys.children)
    return Declaration(
        item, str(name), "function", parameter_nodes(parameters), result, body, cached is not None, by
    )


def declare_step(item: Item) -> Declaration:
    """A `step` item."""
    _hardware, name, parameters, body = item.tree.children
    return Declaration(item, str(name), "step", parameter_nodes(parameters), None, body)


def declare_handler(item: Item) -> Declaration:
    """A `handler` item, as the function `handle_NAME`."""
    name, body = item.tree.children
    return Declaration(item, f"handle_{name}", "handler", (), None, body)


def declare_transfer(item: Item, direction: str) -> Declaration:
    """A `transfer` item in one direction, `load` or `save`."""
    name, *rows = item.tree.children
    return Declaration(item, f"{direction}_{name}", "transfer", (), None, Node("rows", rows))


def parameter_nodes(parameters: Node | None) -> tuple[Node, ...]:
    """The parameters of a list that may be absent."""
    return tuple(p for p in parameters.children if p is not None) if parameters is not None else ()


def _arguments(node: Node) -> list[Node]:
    return [c for c in node.children[1:] if c is not None]


def _same_count(checker: Context, node: Node, name: str, wanted: int, found: int) -> None:
    if wanted != found:
        raise fail("arguments", f"'{name}' takes {wanted} argument(s), not {found}", checker.span(node))


def _is_width(type_: Node | None) -> bool:
    return type_ is not None and type_.data == "named_type" and str(type_.children[0]) == "width"


def _free_width(type_: Node, widths: dict[str, int]) -> str | None:
    """The width parameter that `bits(N)` introduces here."""
    if type_.data != "bits_type" or type_.children[0].data != "name":
        return None
    name = str(type_.children[0].children[0])
    return None if name in widths else name


def _identifier(name: str) -> str:
    return f"raise_{name[1:]}" if name.startswith("#") else name


def _returns(statements: tuple[ir.Stmt, ...]) -> bool:
    for s in statements:
        match s:
            case ir.Return():
                return True
            case ir.If(_, _, then, otherwise) if _returns(then) or _returns(otherwise):
                return True
            case ir.Attempt(_, body, catches) if _returns(body) or any(_returns(c.body) for c in catches):
                return True
    return False


def _header(span: Span) -> Span:
    return Span(span.file, span.line, span.column, span.line, span.column + 8)
