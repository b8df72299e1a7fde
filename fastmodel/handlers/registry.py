"""The list of handlers: which instruction of the specification, for which widths and forms of its operands.

A form has a letter for each operand: `r` register, `m` memory, `i` immediate or branch target. Widths are those of the
operands' values, in bits, None for an operand that is only an address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from fastmodel.handlers.parameters import KIND_NAMES, KINDS

Function = TypeVar("Function", bound=Callable[..., int])
Widths = tuple[int | None, ...]

# How a handler goes on: with the next instruction; by a direct branch, always or conditionally (it returns DONE or
# TAKEN); by itself once more, if it returns TAKEN; or at the RIP that it has set.
STEP = "step"
BRANCH = "branch"
CONDITIONAL = "conditional"
REPEAT = "repeat"
JUMP = "jump"

# What a handler does with the status flags. Where nothing looks at flags before all of them are replaced, the routines
# that would set them need not (traces.py). `SEEN` claims nothing; the others complete always, and what they do but for
# flags does not depend on flags: `KEPT` changes none, `REPLACED` sets all, whatever they were, and `CHANGED` some.
SEEN, KEPT, REPLACED, CHANGED = range(4)


@dataclass(frozen=True)
class Handler:
    """One specialised handler; `function` takes (state, u) and returns DONE, TAKEN or REFUSED.

    `fused` are the conditions of the Jcc that a routine does in one with it.
    """

    instruction: str
    widths: Widths
    form: str
    function: Callable[[int, int], int]
    bindings: tuple[tuple[str, Any], ...]
    flow: str
    flags: int
    fused: tuple[int, ...]

    @property
    def key(self) -> tuple[str, Widths, str]:
        """What the decoder finds it by."""
        return self.instruction, self.widths, self.form

    @property
    def falls_through(self) -> bool:
        """Whether the next instruction may follow."""
        return self.flow not in (BRANCH, JUMP)

    @cached_property
    def name(self) -> str:
        """A readable name of its own, such as `ADD 32,32 rm`."""
        widths = ",".join(str(w) for w in self.widths)
        return f"{self.instruction} {widths} {self.form}".rstrip()

    @cached_property
    def unseen_name(self) -> str:
        """The name of the routine that leaves the flags alone."""
        return f"{self.name}, flags unseen"

    def fused_name(self, condition: int) -> str:
        """The name of the routine that does a Jcc too."""
        return f"{self.name}, J{CONDITIONS[condition]}"

    @property
    def condition(self) -> int | None:
        """The number of the condition of a Jcc, None for other instructions."""
        number: int | None = dict(self.bindings).get("CONDITION")
        return number

    @property
    def has_unseen(self) -> bool:
        """Whether there is a routine that leaves the flags alone: for what compilers emit often."""
        return self.flags in (REPLACED, CHANGED) and self.widths[0] in (32, 64)


HANDLERS: list[Handler] = []

# The conditions of Jcc by number.  SDM 2D B.1.4.7
CONDITIONS = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

SIZES: tuple[Widths, ...] = ((8, 8), (16, 16), (32, 32), (64, 64))
SIZES_16_UP = SIZES[1:]
ONE_SIZE: tuple[Widths, ...] = ((8,), (16,), (32,), (64,))


def handles(  # noqa: PLR0913  all but the first are keywords
    instruction: str,
    *,
    template: Callable[[int, int], int] | None = None,
    widths: Sequence[Widths] = ((),),
    forms: str = "",
    flow: str = STEP,
    condition: int | None = None,
    flags: int = SEEN,
    fused: Sequence[str] = (),
) -> Callable[[Function], Function]:
    """Makes the decorated function the handler of an instruction, or of a family such as `SET{cc}`.

    `forms` are separated by spaces. With a template the decorated function is its OPERATION. `flags` holds of the forms
    that do not access memory; `fused` are the conditions of the Jcc that often follow.
    """
    conditions = tuple(CONDITIONS.index(name) for name in fused)

    def register(function: Function) -> Function:
        for each in widths:
            for form in forms.split() or [""]:
                bindings = _bindings(each, form)
                if condition is not None:
                    bindings["CONDITION"] = condition
                if template is not None:
                    bindings["OPERATION"] = function
                sorted_bindings = tuple(sorted(bindings.items()))
                effect = SEEN if _accesses_memory(each, form) else flags
                handler = template or function
                HANDLERS.append(
                    Handler(instruction, each, form, handler, sorted_bindings, flow, effect, conditions)
                )
        return function

    return register


def _accesses_memory(widths: Widths, form: str) -> bool:
    return any(letter == "m" and width is not None for letter, width in zip(form, widths, strict=False))


def _bindings(widths: Widths, form: str) -> dict[str, Any]:
    bindings: dict[str, Any] = dict.fromkeys(KIND_NAMES, -1)
    for name, kind in zip(KIND_NAMES, form, strict=False):
        bindings[name] = KINDS[kind]
    sizes = zip(("WIDTH", "SECOND_WIDTH"), widths, strict=False)
    return bindings | {name: width for name, width in sizes if width is not None}
