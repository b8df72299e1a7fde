"""Checks a whole specification: declares all items, then checks every body, and builds the typed IR."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from grammar import ir
from grammar.diagnostics import Diagnostic
from grammar.encodings import MEMORY_KINDS, encoding_row, operand_codes
from grammar.environment import (
    CheckError,
    Environment,
    StateDeclaration,
    fail,
    parse_number,
    struct_fields,
    suggestion,
)
from grammar.expressions import ExpressionChecker
from grammar.functions import FunctionTable, declare_function, declare_handler, declare_step, declare_transfer
from grammar.instructions import check_instruction
from grammar.parse import TOO_COMPLEX, Item
from grammar.scope import LocalName, Scope
from grammar.source import Span
from grammar.tree import Node
from grammar.widths import every_operand_size, operand_width

_STATE_KINDS = ("register", "vmcs", "state", "ghost")
# Functions of the specification, with the width as first parameter, that operands are read and written by.
REGISTER_ACCESSORS = ("read_register", "write_register")
MEMORY_ACCESSORS = ("read_memory_operand", "modify_memory_operand", "write_memory_operand")


class SpecificationChecker:
    """The state of one check: the environment, the program built so far, the errors found."""

    def __init__(self, items: Iterable[Item], suspects: Iterable[str]) -> None:
        self.items = [i for i in items if i.tree.data != "include"]
        self.errors: list[Diagnostic] = []
        self.env = Environment(suspects=set(suspects))
        self.functions = FunctionTable(self.env, self._report)
        self.program = ir.Program()

    def run(self) -> ir.Program:
        """The program; complete only if `errors` stays empty."""
        self._declare_names()
        self._each(("newtype", "enum", "bitfield", "struct", "abort"), self._declare_type)
        self._each(("constant",), self._constant)
        self._each((*_STATE_KINDS, "memory"), self._declare_state)
        self._each(("function", "step", "handler", "transfer", "output", "rules"), self._declare_code)
        self._each(("operands",), self._operands)
        self._each(_STATE_KINDS, self._state)
        self._each(("abort",), self._abort)
        self._each(("missing",), self._missing)
        self._each(("rules",), self._rules)
        self._each(("policy", "invariant"), self._predicate)
        self._each(("function", "step", "handler", "transfer"), self._code)
        self._each(("undefined_encoding", "instruction"), self._encodings)
        self._accessors()
        self.program.functions.update(self.functions.instances)
        return self.program

    def _report(self, error: CheckError) -> None:
        diagnostic = error.diagnostic
        if diagnostic is not None and not any(
            d.span == diagnostic.span and d.code == diagnostic.code for d in self.errors
        ):
            self.errors.append(diagnostic)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except CheckError as error:
            self._report(error)

    def _each(self, kinds: tuple[str, ...], action: Callable[[Item], None]) -> None:
        for item in self.items:
            if item.tree.data in kinds:
                with self._reporting():
                    try:
                        action(item)
                    except RecursionError:
                        raise fail(
                            "nesting", TOO_COMPLEX, _header(item), hint="name the parts with `let`"
                        ) from None

    # --- declarations

    def _declare_names(self) -> None:
        for item in self.items:
            name = _name(item)
            if name is None:
                continue
            if name in self.env.items:
                other = self.env.items[name]
                where = (_header(other), "declared here")
                self._report(fail("duplicate", f"'{name}' is already declared", _header(item), [where]))
            else:
                self.env.items[name] = item

    def _declare_type(self, item: Item) -> None:
        name = str(item.tree.children[0])
        self.program.types[name] = self.env.named_type(name, item.span(item.tree))
        if item.tree.data == "abort":
            self.functions.abort_items[name] = item

    def _missing(self, item: Item) -> None:
        if not item.doc:
            raise fail("missing", "say in a comment (///) what is left out, and why", _header(item))
        name = str(item.tree.children[0])
        self.program.missing[name] = ir.Missing(item.span(item.tree), item.doc, name)

    def _constant(self, item: Item) -> None:
        name, type_node, value_node = item.tree.children
        type_ = self.env.type(item, type_node)
        value = self._expressions(item, Scope()).check(value_node, type_)
        if not isinstance(value, ir.Literal):
            raise fail("constant", "the value must be known when the file is checked", item.span(value_node))
        constant = ir.Constant(item.span(item.tree), item.doc, str(name), type_, value.value)
        self.env.constants[str(name)] = self.program.constants[str(name)] = constant

    def _declare_state(self, item: Item) -> None:
        kind, children = item.tree.data, item.tree.children
        name = str(children[0])
        if kind == "memory":
            address = self.env.type(item, children[1])
            if isinstance(address, (ir.Bool, ir.Struct)):
                raise fail("type", "the address must be a vector", item.span(children[1]))
            self.program.memories[name] = ir.Memory(item.span(item.tree), item.doc, name, address)
            return
        indices = () if kind == "vmcs" else self._indices(item, children[1])
        self.env.state[name] = StateDeclaration(item, indices, self.env.type(item, children[2]))

    def _indices(self, item: Item, node: Node | None) -> tuple[ir.Parameter, ...]:
        result = []
        for number, index in enumerate(node.children if node is not None else ()):
            name, type_ = index.children
            result.append(ir.Parameter(str(name or f"index{number}"), self.env.type(item, type_)))
        return tuple(result)

    def _declare_code(self, item: Item) -> None:
        declarations = self.functions.declarations
        match item.tree.data:
            case "function":
                declaration = declare_function(item)
                declarations[declaration.name] = declaration
            case "step":
                declaration = declare_step(item)
                declarations[declaration.name] = declaration
            case "handler":
                declaration = declare_handler(item)
                declarations[declaration.name] = declaration
            case "transfer":
                for direction in ("load", "save"):
                    declaration = declare_transfer(item, direction)
                    declarations[declaration.name] = declaration
            case "rules":
                self.functions.groups.add(str(item.tree.children[0]))
            case "output":
                name, parameters = item.tree.children
                output = ir.OutputDeclaration(
                    item.span(item.tree), item.doc, str(name), self._parameters(item, parameters)
                )
                self.functions.outputs[str(name)] = self.program.outputs[str(name)] = output

    def _parameters(self, item: Item, node: Node | None) -> tuple[ir.Parameter, ...]:
        result = []
        for parameter in node.children if node is not None else ():
            if parameter is None:
                continue
            name, type_ = parameter.children
            if type_ is None:
                raise fail("type", f"the parameter '{name}' needs a type", item.span(parameter))
            result.append(ir.Parameter(str(name), self.env.type(item, type_)))
        return tuple(result)

    # --- bodies

    def _expressions(self, item: Item, scope: Scope) -> ExpressionChecker:
        return ExpressionChecker(self.env, self.functions, item, scope)

    def _pure(
        self, item: Item, node: Node, parameters: tuple[ir.Parameter, ...], type_: ir.Type | None
    ) -> ir.Expr:
        """An expression without effects over `parameters`."""
        scope = Scope(
            locals={p.name: LocalName(p.type, False, item.span(item.tree)) for p in parameters}, guarded=1
        )
        checker = self._expressions(item, scope)
        return checker.infer(node) if type_ is None else checker.check(node, type_)

    def _state(self, item: Item) -> None:
        kind, children = item.tree.data, item.tree.children
        name = str(children[0])
        if name not in self.env.state:
            raise CheckError(None)
        declaration = self.env.state[name]
        clauses = {c.data: c for c in _ownership(item)}
        reset = 0
        if kind in ("register", "state") and children[3] is not None:
            value = self._expressions(item, Scope()).check(children[3], declaration.type)
            if not isinstance(value, ir.Literal):
                raise fail(
                    "constant",
                    "the value at reset must be known when the file is checked",
                    item.span(children[3]),
                )
            reset = value.value
        owner = self._owner(item, kind, clauses, declaration.indices)
        itself = ir.Read(declaration.type, name, tuple(ir.Local(p.type, p.name) for p in declaration.indices))
        self.program.state[name] = ir.StateVariable(
            span=item.span(item.tree),
            doc=item.doc,
            space=kind,
            name=name,
            indices=declaration.indices,
            type=declaration.type,
            reset=reset,
            encoding=parse_number(str(children[1])) if kind == "vmcs" else None,
            owner=owner,
            view=self._part(item, clauses.get("view"), owner, itself, of_guest=True),
            host=self._part(item, clauses.get("host"), owner, itself, of_guest=False),
            carries_value="value" in clauses,
        )

    def _owner(
        self, item: Item, kind: str, clauses: dict[str, Node], indices: tuple[ir.Parameter, ...]
    ) -> ir.Expr:
        clause = clauses.get("owner")
        if clause is None:
            return ir.Literal(ir.BOOL, int(kind == "register"))
        whose, condition = clause.children
        if condition is None:
            return ir.Literal(ir.BOOL, int(str(whose) == "guest"))
        owned = self._pure(item, condition, indices, ir.BOOL)
        return owned if str(whose) == "guest" else ir.Unary(ir.BOOL, "not", owned)

    def _part(
        self, item: Item, clause: Node | None, owner: ir.Expr, itself: ir.Read, of_guest: bool
    ) -> ir.Expr | None:
        """The guest's view or the host's part: as declared, or by ownership the whole item, nothing or a choice."""
        if clause is not None:
            declaration = self.env.state[itself.name]
            return self._pure(item, clause.children[0], declaration.indices, itself.type)
        if isinstance(owner, ir.Literal):
            return itself if bool(owner.value) == of_guest else None
        nothing = ir.Literal(itself.type, 0)
        then, otherwise = (itself, nothing) if of_guest else (nothing, itself)
        return ir.Conditional(itself.type, owner, then, otherwise)

    def _abort(self, item: Item) -> None:
        name, guard, *fields = item.tree.children
        type_ = ir.Struct(str(name), struct_fields(self.env, item, fields))
        condition = None if guard is None else self._pure(item, guard, (), ir.BOOL)
        self.program.aborts[str(name)] = ir.Abort(item.span(item.tree), item.doc, str(name), type_, condition)

    def _rules(self, item: Item) -> None:
        name, *rows = item.tree.children
        rules = []
        for row in rows:
            with self._reporting():
                condition = self._pure(item, row.children[1], (), ir.BOOL)
                rules.append(
                    ir.Predicate(item.span(row), item.doc_of(row), str(row.children[0]), (), condition)
                )
        self.program.rules[str(name)] = ir.Rules(item.span(item.tree), item.doc, str(name), tuple(rules))

    def _predicate(self, item: Item) -> None:
        name, *parameter_nodes, condition_node = item.tree.children
        if item.tree.data == "invariant":
            parameters = self._parameters(item, parameter_nodes[0])
        else:
            holder = Node("parameters", [p for p in parameter_nodes if p is not None])
            parameters = self._parameters(item, holder)
        condition = self._pure(item, condition_node, parameters, ir.BOOL)
        predicate = ir.Predicate(item.span(item.tree), item.doc, str(name), parameters, condition)
        (self.program.policies if item.tree.data == "policy" else self.program.invariants)[str(name)] = (
            predicate
        )

    def _code(self, item: Item) -> None:
        declarations = self.functions.declarations
        name, place = str(_name(item)), item.span(item.tree)
        match item.tree.data:
            case "function":
                declaration = declarations[name]
                if not any(_is_generic(p) for p in declaration.parameters):
                    self.functions.instance(declaration, {}, place)
            case "step":
                function = self.functions.instance(declarations[name], {}, place)
                hardware = item.tree.children[0] is not None
                self.program.steps[name] = ir.Step(
                    place, item.doc, name, hardware, function.parameters, function.body
                )
            case "handler":
                reason = str(item.tree.children[0])
                function = self.functions.instance(declarations[f"handle_{reason}"], {}, place)
                value = self._reason(item, reason)
                self.program.handlers[reason] = ir.Handler(place, item.doc, reason, value, function.body)
            case "transfer":
                name = str(item.tree.children[0])
                for direction in ("load", "save"):
                    self.functions.instance(declarations[f"{direction}_{name}"], {}, place)

    def _reason(self, item: Item, reason: str) -> int | None:
        if reason == "OTHER":
            return None
        kind, _ = self.functions.exit_abort(item.span(item.tree))
        enum = kind.fields[0][1]
        if not isinstance(enum, ir.Enum) or reason not in dict(enum.members):
            known = dict(enum.members) if isinstance(enum, ir.Enum) else {}
            raise fail(
                "exit",
                f"'{reason}' is no member of {enum}",
                item.span(item.tree.children[0]),
                hint=suggestion(reason, known),
            )
        return dict(enum.members)[reason]

    # --- encodings

    def _operands(self, item: Item) -> None:
        self.program.operands.update(operand_codes(item))

    def _encodings(self, item: Item) -> None:
        if item.tree.data == "undefined_encoding":
            rows = tuple(encoding_row(item, row, None) for row in item.tree.children)
            self.program.undefined_encodings += rows
            return
        for instruction in check_instruction(
            self.env, self.functions, self.program.operands, item, self._report
        ):
            if instruction.name in self.program.instructions:
                raise fail(
                    "duplicate", f"the instruction '{instruction.name}' is declared twice", _header(item)
                )
            self.program.instructions[instruction.name] = instruction

    def _accessors(self) -> None:
        """The functions behind the operands, for every width that an instruction reads or writes."""
        bodies = [body for instruction in self.program.instructions.values() for body in instruction.bodies]
        widths = {use.width for body in bodies for use in body.operands if use.reads or use.writes}
        in_registers = widths & self._register_widths()
        for name in (*REGISTER_ACCESSORS, *MEMORY_ACCESSORS):
            declaration = self.functions.declarations.get(name)
            for width in sorted(
                w for w in (in_registers if name in REGISTER_ACCESSORS else widths) if w is not None
            ):
                if declaration is not None:
                    parameter = str(declaration.parameters[0].children[0])
                    place = declaration.item.span(declaration.item.tree)
                    with self._reporting():
                        self.functions.instance(declaration, {parameter: width}, place)

    def _register_widths(self) -> set[int | None]:
        """The widths of operands that may be general registers: memory only may be wider."""
        codes = self.program.operands
        rows = [row for instruction in self.program.instructions.values() for row in instruction.rows]
        return {
            operand_width(codes[name], size)
            for row in rows
            for name in row.operands
            if codes[name].kind not in MEMORY_KINDS
            for size in every_operand_size(row)
        }


def _is_generic(parameter: Node) -> bool:
    """Whether a parameter is a width, or a vector whose width is a name."""
    type_ = parameter.children[1]
    if type_ is None:
        return False
    if type_.data == "named_type":
        return bool(str(type_.children[0]) == "width")
    return bool(type_.data == "bits_type" and type_.children[0].data != "number")


def _name(item: Item) -> str | None:
    tree = item.tree
    match tree.data:
        case "operands" | "undefined_encoding" | "instruction" | "policy" | "invariant" | "rules":
            return None
        case "handler":
            return f"handle_{tree.children[0]}"
        case "function" | "step":
            return str(tree.children[1])
        case "transfer":
            return f"transfer {tree.children[0]}"
        case _:
            return str(tree.children[0])


def _header(item: Item) -> Span:
    span = item.span(item.tree)
    return Span(span.file, span.line, span.column, span.line, len(item.lines[0]) + 1)


def _ownership(item: Item) -> list[Node]:
    last = item.tree.children[-1]
    if last is None or not hasattr(last, "data") or last.data != "ownership":
        return []
    return list(last.children)
