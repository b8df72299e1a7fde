"""Cases of refuted lemmas about the page walk: page tables that are like those of the counterexample.

What matters of an entry are its flags. They are put into tables for an address that nothing else in the fuzzer's
machine uses, and `nonroot replay` runs one access to it on both engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import z3

from checks.case import Case
from checks.fuzz.bases import (
    CODE,
    DATA,
    EPT_PML4,
    NO_EXECUTE,
    NOP,
    PML4,
    USED,
    USER,
    WRITABLE,
)
from checks.symbolic.terms import Truth
from checks.symbolic.values import Value
from checks.theorem import Counterexample
from checks.trap.concrete import Concrete
from fastmodel import paging

COLUMNS = ("reference", "fast")
WRONG = "the fast model's walk does something else than the specification's"
NAMES = {paging.READ: "read", paging.WRITE: "write", paging.EXECUTE: "fetch"}
SUPERVISOR_AC, CPL_3 = 1, 3  # of the specification's privileges
RDI = 7
AC = 1 << 18
BASE_CONTROLS = {"CR0": 0x80050033, "CR4": 0x20, "EFER": 0xD01}
DECIDING = {"CR0": 1 << 16, "CR4": 1 << 20 | 1 << 21, "EFER": 1 << 11}  # WP, SMEP and SMAP, NXE
POINTER, POINTER_SETS_FLAGS = 3 << 3 | 6, 1 << 6  # of the EPT pointer

SHIFTS = (39, 30, 21, 12)
ADDRESS = 1 << 39  # linear or guest-physical: the second entry of the root leads to tables of its own
NOT_CANONICAL = 1 << 62
TABLES, EPT_TABLES = (0x50000, 0x51000, 0x52000), (0x54000, 0x55000, 0x56000)
LAST_PAGE = 0x35000  # the next one is not present
FLAGS = ~0xFF_FFFF_F000 & (1 << 64) - 1  # of an entry; the rest is an address
PLAIN = USED | USER
NOPS = int.from_bytes(NOP * 8, "little")  # what is fetched
CODES = {
    (paging.READ, 1): "8a07",  # mov al, [rdi]
    (paging.READ, 2): "668b07",
    (paging.READ, 4): "8b07",
    (paging.READ, 8): "488b07",
    (paging.WRITE, 1): "8807",  # mov [rdi], al
    (paging.EXECUTE, 1): "90",  # nop, at the address
}


class Kind(Enum):
    """What a situation's entries are."""

    WALK = auto()  # the guest's, on the way to the address
    FLAGS = auto()  # the same, of which only the accessed and dirty flags count
    RIGHTS = auto()  # one: the bits that all of the guest's have in common
    EPT = auto()  # EPT's, on the way to the guest-physical address
    EPT_OF_WALK = auto()  # EPT's, on the way to a page table of the guest
    PAGE_END = auto()  # none: the operand is at the end of a page


@dataclass(frozen=True, slots=True)
class Situation:
    """An access, in terms: the entries on its way, the root's first, and what else decides.

    `is_executable` goes with rights, `sets_flags` with EPT's entries: whether it has accessed and dirty flags.
    """

    kind: Kind
    access: int
    linear: Value = 0
    entries: tuple[Value, ...] = ()
    privilege: int = 0
    size: int = 1
    is_executable: Value = 1
    sets_flags: Truth = False
    controls: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What a lemma claims of one path, and the situation in which that is wrong."""

    condition: Truth
    claim: Truth
    situation: Situation


def explained(goal_id: str, steps: tuple[Step, ...], model: z3.ModelRef) -> Counterexample:
    """The counterexample under a model, with a case for the first claim that does not hold, or else for the first."""
    concrete = Concrete(model)
    reached = [step for step in steps if concrete.holds(step.condition)]
    situation = next((one for one in reached if not concrete.holds(one.claim)), reached[0]).situation
    case = _case(goal_id, concrete, situation)
    rows = [("access", NAMES[situation.access])]
    rows += [(name, f"{value:#x}") for name, value in case.state.items()]
    rows += [(f"[{address:#x}]", f"{int.from_bytes(data, 'little'):#x}") for address, data in case.memory]
    return Counterexample(WRONG, ("", "start"), tuple(rows), None, case.document())


def _case(goal_id: str, concrete: Concrete, situation: Situation) -> Case:
    entries = [concrete.number(entry) for entry in situation.entries]
    linear = concrete.number(situation.linear)
    place, state = ADDRESS, _controls(concrete, situation.controls)
    if situation.privilege == SUPERVISOR_AC:
        state["RFLAGS"] = AC | 2
    base = "user" if situation.privilege == CPL_3 else "kernel"
    words: Mapping[int, int] = {}
    match situation.kind:
        case Kind.PAGE_END:
            place = LAST_PAGE | linear & 0xFFF
        case Kind.EPT | Kind.EPT_OF_WALK:
            base = "guest-kernel"
            flags = POINTER_SETS_FLAGS if concrete.holds(situation.sets_flags) else 0
            state["EPT_POINTER"] = EPT_PML4 | POINTER | flags
            words = _ept_words(entries, is_table=situation.kind is Kind.EPT_OF_WALK)
        case kind:
            is_executable = concrete.holds(situation.is_executable)
            if not is_executable:  # without EFER.NXE, the bit that says so would be reserved
                state["EFER"] |= DECIDING["EFER"]
            entries = _guest_entries(kind, entries, is_executable=is_executable)
            if kind is Kind.WALK and state.get("EFER", 0) & DECIDING["EFER"]:
                entries = [entry & ~NO_EXECUTE for entry in entries]  # a right, of which a walk says nothing
            offset = DATA if len(entries) < len(SHIFTS) else 0
            is_canonical = linear >> 47 in (0, (1 << 17) - 1)
            place = ADDRESS | offset | (0 if is_canonical else NOT_CANONICAL)
            words = dict(_words(PML4, TABLES, entries, DATA))
    if situation.access == paging.EXECUTE:
        state |= {"RIP": place}
        words = {**words, DATA: NOPS}
    else:
        state |= {"RIP": CODE, f"GPR[{RDI}]": place}
    return Case(
        kind="fuzz",
        id=goal_id,
        code=bytes.fromhex(CODES[situation.access, situation.size]),
        base=base,
        steps=1,
        state=state,
        memory=tuple((address, word.to_bytes(8, "little")) for address, word in words.items()),
        columns=COLUMNS,
        text=WRONG,
    )


def _controls(concrete: Concrete, given: Mapping[str, Value]) -> dict[str, int]:
    """Control registers: those of the base, but for the bits that decide."""
    values = {name: concrete.number(value) for name, value in given.items()}
    return {
        name: BASE_CONTROLS[name] & ~DECIDING[name] | value & DECIDING[name] for name, value in values.items()
    }


def _to_leaf(entries: list[int]) -> list[int]:
    """The entries up to the one that maps a page."""
    large = next((n for n, entry in enumerate(entries[:-1]) if entry & paging.LARGE), len(entries) - 1)
    return entries[: large + 1]


def _guest_entries(kind: Kind, entries: list[int], *, is_executable: bool) -> list[int]:
    """The guest's entries, to the leaf; their addresses mean nothing."""
    if kind is Kind.WALK:
        return _to_leaf(entries)
    if kind is Kind.RIGHTS:
        decided = WRITABLE | USER
        leaf = PLAIN & ~decided | entries[0] & decided | (0 if is_executable else NO_EXECUTE)
        return [PLAIN, PLAIN, PLAIN, leaf]
    decided = paging.ACCESSED | paging.DIRTY
    used = [PLAIN & ~decided | entry & decided for entry in entries]
    used[-1] |= paging.LARGE if len(used) < len(SHIFTS) else 0
    return used


def _ept_words(entries: list[int], *, is_table: bool) -> dict[int, int]:
    """EPT's tables with these entries for a guest-physical address where a page table, or the page itself, lies."""
    entries = _to_leaf(entries)
    target = TABLES[2] if is_table else DATA
    address = ADDRESS | (target if len(entries) < len(SHIFTS) else 0)
    tables, page = ((*TABLES[:2], address), DATA) if is_table else (TABLES, address)
    guest = _words(PML4, tables, [PLAIN] * len(SHIFTS), page, {address: target})
    return {**dict(guest), **dict(_words(EPT_PML4, EPT_TABLES, entries, target))}


def _words(
    root: int, tables: Sequence[int], entries: list[int], page: int, hosts: Mapping[int, int] | None = None
) -> Iterator[tuple[int, int]]:
    """Entries that lead from a root through tables to a page; `hosts` says where tables lie that EPT moves."""
    table = root
    for number, (shift, entry) in enumerate(zip(SHIFTS, entries, strict=False)):
        place = (hosts or {}).get(table, table) + 8 * (ADDRESS >> shift & 511)
        if number == len(entries) - 1:
            reserved = (1 << shift) - (1 << SHIFTS[-1]) if number < len(SHIFTS) - 1 else 0
            yield place, entry & (FLAGS | reserved) | (0 if reserved else page)
        else:
            table = tables[number]
            yield place, entry & FLAGS | table
