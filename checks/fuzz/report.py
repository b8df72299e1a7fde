"""A divergence in the specification's terms: the instructions, the start state, and both sides' values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from checks.fuzz.difference import NONE, Difference, Divergence
from grammar.ir import Bitfield, Program
from grammar.source import shown_file
from refmodel.decoder import NotModelled, Truncated
from refmodel.encoding import MAX_LENGTH
from refmodel.model import Model
from refmodel.text import text

if TYPE_CHECKING:
    from checks.fuzz.campaign import Campaign


def describe(divergence: Divergence, model: Model, names: tuple[str, str], spec: Path | None = None) -> str:
    """The report; `names` are the reference's and the tested engine's, `spec` is where the specification lies."""
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
        span = instruction.span
        lines += ["", f"  {instruction.name}: {shown_file(span.file, spec)}:{span.line}:{span.column}"]
    return "\n".join(lines)


def summary(campaign: Campaign) -> str:
    """What a campaign came to, in a few lines."""
    outcome, tally, coverage = campaign.outcome, campaign.tally, campaign.coverage
    corpus = f", {outcome.replayed} from the corpus" if outcome.replayed else ""
    problems = campaign.corpus.problems
    corrupt = f", {len(problems)} corrupt files skipped" if problems else ""
    rate = outcome.cases / max(outcome.seconds, 0.001)
    lines = [
        (
            f"{outcome.cases} cases in {outcome.seconds:.1f} s ({rate:,.0f} a second){corpus}{corrupt}:"
            f" {len(outcome.divergences)} divergences"
            f" ({tally.executed} instructions compared, {tally.refused} left to the reference,"
            f" {tally.not_modelled} not modelled)"
        ),
        f"{coverage.reached} of {coverage.total} clauses reached (--coverage lists the others)",
    ]
    if campaign.programs is not None:
        programs = campaign.programs.comparison.tally
        lines.append(
            f"{programs.programs} programs: {programs.instructions} instructions, {programs.vm_exits} VM exits"
        )
    if campaign.full_speed is not None:
        speed = campaign.full_speed.speed
        rate = speed.cases / max(speed.seconds, 0.001)
        undefined = f", {speed.undefined} differ where the result is undefined" if speed.undefined else ""
        unconfirmed = f", in {speed.unconfirmed} the compiled reference is wrong" if speed.unconfirmed else ""
        lines.append(
            f"{speed.cases} cases against the compiled reference ({rate:,.0f} a second){undefined}{unconfirmed}"
        )
    if tally.known:
        known = ", ".join(f"{name} {count}" for name, count in tally.known.most_common())
        lines.append(f"{sum(tally.known.values())} known differences: {known}")
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
    values = (
        "none" if value == NONE else f"{value:#x}" for value in (difference.reference, difference.tested)
    )
    row = f"    {difference.item:20} {'   '.join(f'{value:>18}' for value in values)}"
    variable = program.state.get(difference.item)
    if variable is None or not isinstance(variable.type, Bitfield):
        return row
    changed = difference.reference ^ difference.tested
    fields = [m.name for m in variable.type.members if changed >> m.low & (1 << m.high - m.low + 1) - 1]
    return f"{row}   {' '.join(fields)}".rstrip()
