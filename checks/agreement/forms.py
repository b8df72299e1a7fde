"""An instruction form as symbolic terms, from a start state that is all symbols."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import z3

from checks.agreement.compiled import Compiled, compiled
from checks.agreement.contents import Contents, Either, Written
from checks.agreement.reference import COMPLETES
from checks.fast.start import ReferenceEvaluator, Source
from checks.symbolic.memory import BYTE, ByteMemory, Stored
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits
from checks.symbolic.state import Elements, Merged, State, Surroundings, Updated
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, fresh, leaves, lifted
from checks.trap.contract import LINEAR, Contract
from checks.trap.forms import Form
from checks.trap.initial import Symbols
from checks.trap.operands import CODE_SIZE, OperandSymbols
from checks.trap.runs import LINEAR_WIDTH
from checks.trap.subject import act_of
from checks.trap.unknown import Unknowns
from grammar import ir

PROBE = "probe!"
"""The beginning of the names of the symbols for the point at which indexed state is read after a run."""


@dataclass(frozen=True, slots=True)
class Path:
    """One path of a form to an end: its name, where its condition stands among the values, and the condition."""

    name: str
    kind: str
    condition: int
    term: z3.BoolRef


@dataclass(frozen=True, slots=True)
class End:
    """What a form leaves where it ends in one of the paths of a kind, as places among the values.

    `carried` are the leaves of the abort's value, `scalars` changed state, `elements` what changed indexed state and
    memories have at the probed point, `contents` what was written to them.
    """

    carried: tuple[int, ...]
    scalars: dict[str, int]
    elements: dict[str, int]
    contents: dict[str, Contents]


@dataclass(frozen=True, slots=True)
class FormTerms:
    """A form that can be evaluated: `compiled` gives the values that `paths` and `ends` speak of.

    `hypotheses` hold of the operands of every encoding.
    """

    form: Form
    paths: tuple[Path, ...]
    ends: dict[str, End]
    compiled: Compiled
    hypotheses: tuple[z3.BoolRef, ...]

    def probed(self) -> frozenset[str]:
        """The indexed state and memories that are read after a run."""
        return frozenset(name for end in self.ends.values() for name in end.elements)


class Forms:
    """Makes the terms of forms, in one context."""

    def __init__(self, program: ir.Program) -> None:
        self.program, self.terms = program, Terms(z3.Context())
        symbols = Symbols(self.terms)
        source = Source(symbols, self.terms.symbol("RFLAGS", 64))
        widths = {name: memory.address.width for name, memory in program.memories.items()}
        memories = {
            name: ByteMemory(self.terms, width, lambda a, n=name, w=width: symbols.byte(n, a, w))  # type: ignore[misc]
            for name, width in {**widths, LINEAR: LINEAR_WIDTH}.items()
        }
        self._start = State(Surroundings(program, self.terms, source, dict(memories)))
        self._contract = Contract(program, lambda _: (), Unknowns(self.terms))

    def terms_of(self, form: Form) -> FormTerms:
        """Runs a form symbolically and compiles what comes out.  Raises UnsupportedError."""
        evaluator = ReferenceEvaluator(self.program, self.terms, overrides=self._contract.overrides())
        cursor, exits = Cursor(self._start.copy(), {}), cast(Exits, [])
        code_size = evaluator.call(self.program.functions[CODE_SIZE], (), cursor, exits)
        symbols = OperandSymbols(self.terms, form, self._start.elements("GPR"), cast(Vector, code_size))
        act_of(form.body.body, symbols)(evaluator, cursor, exits)
        cursor.leave(RETURN, None, None, exits)
        outputs = _Outputs(self.program, self.terms)
        paths = tuple([outputs.path(one) for one in exits if one.condition is not False])
        ends = {kind: outputs.end(kind, end) for kind, end in self._ends(evaluator, exits)}
        hypotheses = tuple(self.terms.truth(one) for one in symbols.hypotheses())
        return FormTerms(form, paths, ends, compiled(outputs.terms), hypotheses)

    def _ends(self, evaluator: ReferenceEvaluator, exits: Exits) -> Iterator[tuple[str, Exit]]:
        """The exits of each kind as one."""
        scope = Cursor(self._start, {})
        returned = [e for e in exits if e.kind == RETURN]
        if returned:
            yield COMPLETES, evaluator.merge_returns(returned, scope)
        for kind in dict.fromkeys(e.kind for e in exits if e.kind != RETURN):
            yield kind, cast(Exit, evaluator.merge_aborts(exits, kind, scope))


class _Outputs:
    """The terms to be evaluated."""

    def __init__(self, program: ir.Program, builder: Terms) -> None:
        self._program, self._builder = program, builder
        self.terms: list[z3.ExprRef] = []
        self._places: dict[int, int] = {}
        self._contents: dict[int, tuple[Elements, Contents]] = {}

    def path(self, exit_: Exit) -> Path:
        """Adds the condition of one path."""
        kind = COMPLETES if exit_.kind == RETURN else exit_.kind
        name = kind if exit_.kind == RETURN else f"{kind} {self._detail(exit_)}"
        place = self._put(exit_.condition, ir.BOOL)
        return Path(name, kind, place, cast(z3.BoolRef, self.terms[place]))

    def _detail(self, exit_: Exit) -> str:
        """What the first field that is carried says: the vector, the reason."""
        if exit_.span is None:
            return "of an access"  # the contract for memory has no statement that raises it
        type_ = self._program.aborts[exit_.kind].type
        _, value, leaf = next(leaves(cast(Value, exit_.value), type_))
        if not isinstance(value, int):
            return "of any kind"
        names = {number: name for name, number in leaf.members} if isinstance(leaf, ir.Enum) else {}
        return f"{names.get(value, value)}"

    def end(self, kind: str, end: Exit) -> End:
        """Adds the values of one end."""
        type_ = self._program.aborts[kind].type if kind != COMPLETES else None
        carried = leaves(cast(Value, end.value), type_) if type_ is not None else ()
        found = End(tuple(self._put(value, leaf) for _, value, leaf in carried), {}, {}, {})
        for name in end.state.changed:
            variable = self._program.state.get(name)
            if variable is not None and variable.space == "ghost":
                continue  # no machine has it
            if variable is not None and not variable.indices:
                found.scalars[name] = self._put(end.state.get(name), variable.type)
            else:
                elements = end.state.elements(name)
                found.elements[name] = self._probe(name, variable, elements)
                found.contents[name] = self._written(elements)
        return found

    def _probe(self, name: str, variable: ir.StateVariable | None, elements: Elements) -> int:
        types = [p.type for p in variable.indices] if variable is not None else [ir.Bits(LINEAR_WIDTH)]
        point = tuple([fresh(self._builder, f"{PROBE}{name}.{i}", t) for i, t in enumerate(types)])
        return self._put(elements.read(point), variable.type if variable is not None else BYTE)

    def _written(self, elements: Elements) -> Contents:
        """The writes of a chain, each once."""
        if id(elements) not in self._contents:
            # Kept with it, so that no other has its identity.
            self._contents[id(elements)] = elements, self._writes(elements)
        return self._contents[id(elements)][1]

    def _writes(self, elements: Elements) -> Contents:
        if isinstance(elements, Merged):
            condition = self._put(elements.condition, ir.BOOL)
            return Either(condition, self._written(elements.then), self._written(elements.otherwise))
        if isinstance(elements, Updated):
            types = zip(elements.point, elements.point_types, strict=True)
            point = tuple([self._put(index, type_) for index, type_ in types])
            return Written(self._written(elements.old), point, self._put(elements.value, elements.type), None)
        if isinstance(elements, Stored):
            address = self._put(elements.address, ir.Bits(elements.address_width))
            value = self._put(elements.value, ir.Bits(elements.width))
            return Written(self._written(elements.old), (address,), value, elements.width // 8)
        return None

    def _put(self, value: Value | Truth, type_: ir.Type) -> int:
        """The place of a value, which is added if it is not there."""
        term = lifted(self._builder, value, type_)
        if term.ast.value not in self._places:
            self._places[term.ast.value] = len(self.terms)
            self.terms.append(term)
        return self._places[term.ast.value]
