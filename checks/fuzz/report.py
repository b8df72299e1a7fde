"""A divergence in the specification's terms: the instructions, the start state, and both sides' values."""

from __future__ import annotations

from collections.abc import Iterator

from checks.fuzz.compare import Difference, Divergence
from grammar.ir import Bitfield, Program
from refmodel.decoder import NotModelled, Truncated
from refmodel.encoding import MAX_LENGTH
from refmodel.model import Model
from refmodel.text import text


def describe(divergence: Divergence, model: Model, names: tuple[str, str]) -> str:
    """The report; `names` are the reference's and the tested engine's."""
    case = divergence.case
    lines = [
        f"DIVERGENCE of {names[1]} from {names[0]} after step {case.steps}, from the base '{case.base}'",
        "",
    ]
    lines += [f"  {row}" for row in instructions(case.code, case.state.get("RIP", 0), model)]
    lines += ["", "  start state"]
    lines += [f"    {item:20} {value:#x}" for item, value in sorted(case.state.items())]
    lines += ["", f"  {'after it':22} {names[0]:20} {names[1]:20}"]
    lines += [_difference(difference, model.program) for difference in divergence.differences]
    instruction = model.program.instructions.get(case.instruction)
    if instruction is not None:
        lines += ["", f"  {instruction.name}: {instruction.span}"]
    return "\n".join(lines)


def instructions(code: bytes, rip: int, model: Model) -> Iterator[str]:
    """The instructions of a case as bytes and text, until one cannot be decoded."""
    position = 0
    while position < len(code):
        try:
            decoded = model.decoder.decode(code[position : position + MAX_LENGTH])
        except (NotModelled, Truncated):
            yield f"{rip + position:#x}  {code[position:].hex(' ')}"
            return
        length = decoded.length or len(code)
        yield f"{rip + position:#x}  {code[position : position + length].hex(' '):32} {text(decoded, rip + position)}"
        position += length


def _difference(difference: Difference, program: Program) -> str:
    row = f"    {difference.item:20} {difference.reference:#18x}   {difference.tested:#18x}"
    variable = program.state.get(difference.item)
    if variable is None or not isinstance(variable.type, Bitfield):
        return row
    changed = difference.reference ^ difference.tested
    fields = [m.name for m in variable.type.members if changed >> m.low & (1 << m.high - m.low + 1) - 1]
    return f"{row}   {' '.join(fields)}".rstrip()
