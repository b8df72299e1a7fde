"""How instructions are written: the `syntax` clause of an instruction taken apart.

A template has the instruction's mnemonics (one, and the other names of its condition: JZ is JE) and for each
written operand either the parameter that stands there or, where the text is fixed (`cr3`), that operand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from grammar.ir import Instruction
from refmodel.operands import Immediate, Operand
from refmodel.registers import BY_NAME

# Other names of the conditions.  SDM 2A "Jcc—Jump if Condition Is Met"
CONDITION_SYNONYMS = {
    "B": ("C", "NAE"),
    "AE": ("NB", "NC"),
    "E": ("Z",),
    "NE": ("NZ",),
    "BE": ("NA",),
    "A": ("NBE",),
    "P": ("PE",),
    "NP": ("PO",),
    "L": ("NGE",),
    "GE": ("NL",),
    "LE": ("NG",),
    "G": ("NLE",),
}

_WIDTH_LETTERS: dict[int | None, str] = {8: "b", 16: "w", 32: "d", 64: "q"}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """`mnemonics` in lower case, the first being the one to print; `operands` as written."""

    mnemonics: tuple[str, ...]
    operands: tuple[str | Operand, ...]


def template(instruction: Instruction, widths: Sequence[int | None]) -> Template:
    """The template of an instruction with operands of these widths: its `syntax` clause, or its name and operands.

    An operand's name in the mnemonic stands for the letter of its width: `movs{destination}` is MOVSB to MOVSQ.
    """
    text = instruction.syntax
    if text is None:
        places = ", ".join(f"{{{name}}}" for name in instruction.operands)
        text = f"{instruction.name.lower()} {places}"
    mnemonic, _, rest = text.strip().partition(" ")
    letters = {
        name: _WIDTH_LETTERS.get(width, "") for name, width in zip(instruction.operands, widths, strict=True)
    }
    mnemonic = _PLACEHOLDER.sub(lambda found: letters[found[1]], mnemonic)
    operands = tuple(_place(word.strip(), instruction) for word in rest.split(",") if word.strip())
    return Template((mnemonic, *_synonyms(instruction, mnemonic)), operands)


def _place(word: str, instruction: Instruction) -> str | Operand:
    """A parameter's name, or the fixed operand that the word says."""
    placeholder = _PLACEHOLDER.fullmatch(word)
    if placeholder:
        return placeholder[1]
    if word in BY_NAME:
        return BY_NAME[word]
    try:
        return Immediate(int(word, 0))
    except ValueError:
        raise ValueError(f"{instruction.name}: syntax: cannot read operand '{word}'") from None


def _synonyms(instruction: Instruction, mnemonic: str) -> list[str]:
    """The other mnemonics of a member of a family over conditions."""
    if instruction.family is None:
        return []
    head, _, rest = instruction.family.partition("{")
    tail = rest.partition("}")[2]
    member = instruction.name[len(head) : len(instruction.name) - len(tail)]
    own = f"{head}{member}{tail}".lower()
    if mnemonic != own:
        return []
    return [f"{head}{other}{tail}".lower() for other in CONDITION_SYNONYMS.get(member, ())]
