"""The contract behind which instruction proofs see linear memory.

Unrolling the two-dimensional page walk in each proof would cost seconds to minutes (see docs/theorems.md), so the
functions below are replaced: an access may fault, may exit (in VMX non-root operation only, because of EPT), and
otherwise reads or writes the bytes of a linear memory that belongs to the guest. That guest accesses reach frames of
that guest only is the theorem of the `isolation` family. Which accesses fault is an unknown function of the access and
of every register that translation depends on, found from the replaced function's own text: so a guest whose CR0.WP is
not what it sees gets other faults than on the bare machine, and the proof notices.

What the contract leaves out: an instruction that changes a translation and then uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import z3

from checks.symbolic.evaluate import Call, Evaluator, Override
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Value, key, width_of
from checks.trap.unknown import Unknowns, zero
from checks.walk import children, reachable_functions
from grammar import ir

LINEAR = "LINEAR"
"""The name of the guest's linear memory in a proof's state."""

# Replaced functions by source name, and why each is part of the boundary.
LOADS = {
    "load": "a data access of an instruction",
    "load_for_update": "the read of a read-modify-write access",
    "load_block": "the registers in a save area",
    "load_system": "an access to a descriptor table or the TSS",
}
STORES = {
    "store": "a data access of an instruction",
    "store_block": "the registers in a save area",
    "store_system": "the accessed flag of a descriptor",
    "store_frame": "the stack frame of an event",
}
# Inside the replaced functions this is where EPT and the virtual APIC come in; what they depend on are controls, which
# all runs share. The policy has no virtual APIC.
EPT_BOUNDARY = frozenset({"ept_translate", "virtual_apic_place"})

_NOTED = 16
"""A note of an access stands for so many bytes (`checks.trap.concrete.Concrete.bytes_read`)."""

FAULT = "Fault"
VM_EXIT = "VmExit"


@dataclass(frozen=True, slots=True)
class Contract:
    """The overrides for one program.

    `inputs(function)` is what the function's translation depends on. `alike` maps the values of inputs in one run to
    those in another that the lemma `trap.translation` proves to be equal. `faults` and `violations` collect the
    conditions under which accesses fault, and exit because of EPT; without `may_exit` none exits.
    """

    program: ir.Program
    inputs: Callable[[ir.Function], Sequence[ir.Expr]]
    unknowns: Unknowns
    alike: dict[object, Value] = field(default_factory=dict)
    may_exit: bool = True
    faults: list[Truth] = field(default_factory=list)
    violations: list[Truth] = field(default_factory=list)

    def overrides(self) -> dict[str, Override]:
        """The functions to replace, by source name.  `locate` may not be reached in another way."""
        return {
            **dict.fromkeys(LOADS, self._load),
            **dict.fromkeys(STORES, self._store),
            "locate": _outside,
        }

    def _load(self, call: Call) -> Value:
        self._may_abort(call)
        memory, evaluator = call.state.surroundings.memories[LINEAR], call.evaluator
        width, address = width_of(cast(ir.Type, call.function.result)), cast(Vector, call.argument("address"))
        for offset in range(_NOTED, width // 8, _NOTED):  # the registers in a save area
            further = evaluator.terms.arithmetic("+", address, offset, 64)
            evaluator.touched.element(LINEAR, (further,))
        return memory.read(call.state.elements(LINEAR), address, width)

    def _store(self, call: Call) -> None:
        self._may_abort(call)
        memory, old = call.state.surroundings.memories[LINEAR], call.state.elements(LINEAR)
        address, value = (cast(Vector, call.argument(name)) for name in ("address", "value"))
        width = next(width_of(p.type) for p in call.function.parameters if p.name == "value")
        call.state.set(LINEAR, memory.write(old, address, value, width))

    def _may_abort(self, call: Call) -> None:
        """The access faults, or exits, by predicates of its arguments and of what translation depends on."""
        evaluator, function = call.evaluator, call.function
        with_names = zip(call.typed_arguments, function.parameters, strict=True)
        known = [typed for typed, parameter in with_names if parameter.name != "value"]
        inputs = [(self._input(evaluator, i, call.cursor), i.type) for i in self.inputs(function)]
        fault_type, exit_type = (self.program.aborts[kind].type for kind in (FAULT, VM_EXIT))
        faults, fault = self.unknowns.truth_and_record(
            f"{function.name}.fault", [*known, *inputs], fault_type
        )
        call.abort(FAULT, faults, fault)
        violates = evaluator.terms.equal(self.unknowns.vector(f"{function.name}.exits", known, 1), 1, 1)
        guard = cast(ir.Expr, self.program.aborts[VM_EXIT].guard)
        in_non_root = self.may_exit and cast(Truth, evaluator.pure(guard, call.state))
        violation = evaluator.terms.conjunction((in_non_root, violates))
        self.faults.append(faults)
        self.violations.append(violation)
        evaluator.touched.element(LINEAR, (call.argument("address"),))
        call.abort(VM_EXIT, violation, zero(exit_type))

    def _input(self, evaluator: Evaluator, expression: ir.Expr, cursor: Cursor) -> Value:
        """The value of an input; one that the lemma covers is the same in all runs, so that its use tells nothing."""
        value = Evaluator(self.program, evaluator.terms).pure(expression, cursor.state)
        if not isinstance(value, z3.AstRef) or key(value) in self.alike:
            return self.alike.get(key(value), value)
        return evaluator.pure(expression, cursor.state)


def _outside(call: Call) -> Value:
    raise UnsupportedError(
        f"{call.function.source} is reached outside the contract for memory (checks/trap/contract.py)"
    )


def contract_functions(program: ir.Program) -> list[ir.Function]:
    """The functions that are replaced, all instances."""
    return [f for f in program.functions.values() if f.source in LOADS or f.source in STORES]


def translation_inputs(program: ir.Program, function: ir.Function) -> tuple[ir.Expr, ...]:
    """The registers, or the fields of registers, that an access depends on, apart from EPT."""
    reached = reachable_functions(program, [function.body], EPT_BOUNDARY)
    return tuple(dict.fromkeys(one for f in (*reached, function) for one in _reads(f.body)))


_reads_known: dict[int, tuple[object, tuple[ir.Expr, ...]]] = {}


def _reads(body: object) -> tuple[ir.Expr, ...]:
    """The reads of registers in a body, found once for each."""
    if id(body) not in _reads_known:
        found: dict[ir.Expr, None] = {}
        _collect(body, found)
        _reads_known[id(body)] = (body, tuple(found))
    return _reads_known[id(body)][1]


def _collect(node: object, found: dict[ir.Expr, None]) -> None:
    """Adds reads of registers; of a field only the field, so that the rest of the register does not matter."""
    is_field = isinstance(node, (ir.Slice, ir.Bit)) and isinstance(node.base, ir.Read)
    if isinstance(node, ir.Read) or (
        is_field and isinstance(getattr(node, "index", node), (ir.Literal, ir.Slice))
    ):
        found[cast(ir.Expr, node)] = None
        return
    for child in children(node):
        _collect(child, found)
