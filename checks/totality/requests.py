"""What handlers ask of the VMM in a guest's name, left open: it may do anything, but only to what is the guest's.

Steps that begin or end a guest are for the current one; devices that are programmed belong to it; and a page that it
names has an entry of its own in the guest's tables, and is not another page's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from checks.emulation.machine import written_by
from checks.symbolic.evaluate import Call, Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Value, equal
from checks.totality.havoc import Havoc
from grammar import ir

CURRENT, LIVES, OWNER = "CURRENT_VM", "VM_STATE", "DEVICE_OWNER"
"""The current guest, whether guests are alive, and to whom devices belong."""

OTHER_GUEST, OTHER_DEVICE, NO_PAGE = "other guest", "other guest's device", "page without an entry"
"""The kinds of exit from a run that ends because something else is asked for."""

OPERATES = frozenset({"read_engine", "write_engine"})
NAMES_PAGE = frozenset({"give_page", "take_page"})
"""The functions that use the registers of a `device`, or are given a `page`: see `spec/vmm/`."""

DEVICES, COUNT, PAGE_INDEX = "list_holds_devices", "DEVICE_COUNT", "page_index"
LEVELS = (4, 3, 2, 1)


def ends_guests(program: ir.Program, function: ir.Function) -> bool:
    """Whether a step begins or ends the guest that its parameter `vm` names."""
    return LIVES in written_by(program, [function.body])


@dataclass(slots=True)
class Requests:
    """Leaves calls open; `assumed` is what the invariant says of devices that they use."""

    havoc: Havoc
    assumed: list[Truth] = field(default_factory=list)

    def call(self, call: Call) -> Value | None:
        """What the call may do, if it is for something of the guest's; otherwise the run ends."""
        opened = self.havoc.begin(call.function.name, call.cursor)
        for kind, is_own in self._required(call).items():
            call.abort(kind, call.evaluator.terms.negation(is_own), 0)
        return self.havoc.go_on(opened, call)

    def _required(self, call: Call) -> dict[str, Truth]:
        """What must hold of the arguments, by the kind of exit if it does not."""
        evaluator, function, vm = call.evaluator, call.function, call.state.get(CURRENT)
        program, terms = evaluator.program, evaluator.terms
        type_ = program.state[CURRENT].type
        if function.source in OPERATES:
            self._assume_devices(call)
            device = call.argument("device")
            evaluator.touched.element(OWNER, (device,))
            owner = call.state.elements(OWNER).read((device,))
            return {OTHER_DEVICE: equal(terms, owner, vm, type_)}
        if function.source in NAMES_PAGE:
            return {NO_PAGE: has_own_entry(evaluator, call.argument("page"), call.cursor)}
        if any(p.name == "vm" for p in function.parameters) and ends_guests(program, function):
            return {OTHER_GUEST: equal(terms, call.argument("vm"), vm, type_)}
        return {}

    def _assume_devices(self, call: Call) -> None:
        """The invariant about the last device in the guest's list, where the call is made."""
        evaluator, vm = call.evaluator, call.state.get(CURRENT)
        count = cast(Vector, call.state.elements(COUNT).read((vm,)))
        last = evaluator.terms.arithmetic("-", count, 1, 32)
        condition = evaluator.program.invariants[DEVICES].condition
        self.assumed.append(cast(Truth, evaluator.pure(condition, call.state, vm=vm, position=last)))


def has_own_entry(evaluator: Evaluator, page: Value, cursor: Cursor) -> Truth:
    """The indices into the tables of all levels make up the whole number of the page."""
    function, terms = evaluator.program.functions[PAGE_INDEX], evaluator.terms
    plain = Evaluator(evaluator.program, terms)
    indices = [cast(Vector, plain.call(function, (page, level), cursor, [])) for level in LEVELS]
    whole = terms.concat([(0, 4), *((index, 9) for index in indices)])
    return equal(terms, whole, page, function.parameters[0].type)
