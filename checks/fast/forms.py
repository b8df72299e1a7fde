"""Which forms of instructions have a handler, and how the decoder hands them over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from checks.trap.forms import Form, Place, forms_by_instruction
from fastmodel.handlers import Handler
from fastmodel.handlers.registry import Widths
from grammar import ir

LETTERS = {Place.REGISTER: "r", Place.MEMORY: "m", Place.VALUE: "i", Place.NUMBER: "?"}

Handlers = Mapping[tuple[str, Widths, str], Handler]


@dataclass(frozen=True, slots=True)
class HandledForm:
    """A form of an instruction and its handler; `condition` is the number of the condition in a family's member.

    `name` is the form's, with the operands' width where that alone does not tell it from another (rSP of PUSHFQ).
    """

    name: str
    form: Form
    handler: Handler
    condition: int


def handled_forms(program: ir.Program, handlers: Handlers) -> dict[str, list[HandledForm]]:
    """The forms that have a handler, by the name that the handlers know the instruction by."""
    found: dict[str, list[HandledForm]] = {}
    for name, forms in forms_by_instruction(program).items():
        condition = _condition(program.instructions[name], program)
        names = Counter(form.name for form in forms)
        for form in forms:
            handler = _handler_of(form, handlers)
            if handler is not None:
                label = form.name if names[form.name] == 1 else f"{form.name}/{form.kinds[0].width}"
                one = HandledForm(label, form, handler, condition)
                found.setdefault(handler.instruction, []).append(one)
    return found


def _handler_of(form: Form, handlers: Handlers) -> Handler | None:
    """As the decoder's table has it: that of the instruction, or of its family."""
    widths = tuple(kind.width for kind in form.kinds)
    letters = "".join(LETTERS[kind.place] for kind in form.kinds)
    instruction = form.instruction
    names = (instruction.name, instruction.family or instruction.name)
    return next(
        (handlers[name, widths, letters] for name in names if (name, widths, letters) in handlers), None
    )


def _condition(instruction: ir.Instruction, program: ir.Program) -> int:
    conditions = program.types.get("Condition")
    if instruction.family is None or not isinstance(conditions, ir.Enum):
        return 0
    family = instruction.family
    members = conditions.members
    return next((n for name, n in members if family.replace("{cc}", name) == instruction.name), 0)
