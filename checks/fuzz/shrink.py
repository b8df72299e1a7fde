"""Makes a case that differs smaller: hypothesis looks for the plainest variant of it that still differs.

A case is taken apart: each instruction can become NOPs, each item of the state its value in the base or a plainer one,
each word of memory can stay as it is in the base. Addresses do not move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from checks.case import Case
from checks.fuzz.bases import BASES, NOP
from checks.fuzz.difference import Divergence
from refmodel.decoder import Decoder, NotModelled, Truncated
from refmodel.encoding import MAX_LENGTH

Examine = Callable[[Case], Divergence | None]

_SETTINGS = settings(
    max_examples=1000,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
_RFLAGS_FIXED = 2  # bit 1 is always set
_LEVELS = 6  # a part stays as it was with a chance of 1/2, 3/4, … at these levels


class _OutOfTime(BaseException):
    """Ends the search; hypothesis must not take it for a case that differs."""


@dataclass(frozen=True)
class _Part:
    """One part of a case: the ways it can be, the plainest first, the last as it is."""

    variants: Sequence[Callable[[Case], Case]]


def shrunk(divergence: Divergence, examine: Examine, decoder: Decoder, seconds: float) -> Divergence:
    """The smallest divergence found within `seconds`, with the same instruction; the given one at worst."""
    parts = _parts(divergence.case, decoder)
    best = divergence
    end = time.monotonic() + seconds

    def differs(case: Case) -> bool:
        nonlocal best
        if time.monotonic() >= end:
            raise _OutOfTime
        found = examine(case)
        if found is None or not _is_alike(found, divergence):
            return False
        if _size(found.case) <= _size(best.case):
            best = found
        return True

    # An interrupt ends the search only, as does a case that differs just once: what was found is kept.
    with suppress(NoSuchExample, Flaky, _OutOfTime, KeyboardInterrupt):
        find(_variants(divergence.case, parts), differs, settings=_SETTINGS, random=Random(0))
    with suppress(KeyboardInterrupt):
        for change in (_without_first_nops, _without_last_nops):
            found = examine(change(best.case))
            if found is not None and _is_alike(found, divergence):
                best = found
    return best


def _is_alike(found: Divergence, given: Divergence) -> bool:
    """Whether a divergence shows what the given one does: the same instruction, and no other items."""
    items, known = ({d.item.partition("[")[0] for d in one.differences} for one in (found, given))
    return found.known == given.known and found.case.instruction == given.case.instruction and items <= known


def _without_first_nops(case: Case) -> Case:
    count = len(case.code) - len(case.code.lstrip(NOP))
    if count >= case.steps or "RIP" not in case.state:
        return case
    state = {**case.state, "RIP": case.state["RIP"] + count}
    return replace(case, code=case.code[count:], state=state, steps=case.steps - count)


def _without_last_nops(case: Case) -> Case:
    return replace(case, code=case.code.rstrip(NOP) or NOP)


def _variants(case: Case, parts: Sequence[_Part]) -> st.SearchStrategy[Case]:
    @st.composite
    def variant(draw: st.DrawFn) -> Case:
        level = draw(st.integers(1, _LEVELS))
        result = case
        for part in parts:
            last = len(part.variants) - 1
            chosen = min(last, draw(st.integers(0, (last << level) - 1)))
            result = part.variants[chosen](result)
        return result

    return variant()


def _size(case: Case) -> tuple[int, ...]:
    """What makes a case large, the worst first."""
    changed = sum(case.code[i : i + 1] != NOP for i in range(len(case.code)))
    return (
        changed,
        len(case.state) + len(case.memory),
        case.steps,
        BASES.index(case.base),
        sum(case.state.values()),
    )


def _parts(case: Case, decoder: Decoder) -> list[_Part]:
    bases = BASES[: BASES.index(case.base) + 1]
    parts = [_Part([_with_base(base) for base in bases])]
    parts += [_Part([_without_code(begin, end), _same]) for begin, end in instruction_ranges(case, decoder)]
    parts += [_Part([_without_memory(address), _same]) for address, _ in case.memory]
    for name, value in case.state.items():
        if name != "RIP":
            parts.append(_value_part(name, value))
    return [part for part in parts if len(part.variants) > 1]


def _same(case: Case) -> Case:
    return case


def _with_base(base: str) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, base=base)

    return change


def _without_code(begin: int, end: int) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        nops = NOP * (end - begin)
        return replace(
            case, code=case.code[:begin] + nops + case.code[end:], steps=case.steps + len(nops) - 1
        )

    return change


def _without_memory(address: int) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        return replace(case, memory=tuple((a, data) for a, data in case.memory if a != address))

    return change


def _value_part(name: str, value: int) -> _Part:
    """An item of the state: as in the base, without its high bits, with a single bit less, or as it is."""
    plainer = [value & (1 << width) - 1 for width in (0, 1, 8, 16, 32)]
    plainer += [value & ~bit for bit in (1 << n for n in range(value.bit_length())) if value & bit][:16]
    if name == "RFLAGS":
        plainer = [v | _RFLAGS_FIXED for v in plainer]
    plainer = [v for v in dict.fromkeys(plainer) if v != value]

    def without(case: Case) -> Case:
        return replace(case, state={n: v for n, v in case.state.items() if n != name})

    def with_value(new: int) -> Callable[[Case], Case]:
        return lambda case: replace(case, state={**case.state, name: new})

    return _Part([without, *(with_value(v) for v in plainer), _same])


def instruction_ranges(case: Case, decoder: Decoder) -> list[tuple[int, int]]:
    """Where the instructions of a case's code begin and end, up to bytes that cannot be decoded."""
    ranges, position = [], 0
    while position < len(case.code):
        try:
            length = decoder.decode(case.code[position : position + MAX_LENGTH]).length
        except (NotModelled, Truncated):
            length = 0
        end = position + length if length else len(case.code)
        ranges.append((position, end))
        position = end
    return ranges
