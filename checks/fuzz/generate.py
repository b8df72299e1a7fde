"""Cases from the specification: its encodings, the values at which its text changes course, its flags.

Everything is drawn from a `random.Random`: the same seed draws the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from checks.case import Case
from checks.fuzz.bases import BASES, CODE, NOP, PAGE_SIZE, STACK_TOP
from checks.fuzz.operands import TARGETS, Draft, Operands, draw_value
from checks.fuzz.states import SpecialState
from checks.fuzz.tables import TableChanges, is_mapped
from checks.fuzz.values import boundaries, constants_of, flag_bits
from grammar.ir import Program
from refmodel.addressing import RSP
from refmodel.encoder import Encoder
from refmodel.forms import Form, forms
from refmodel.operands import Operand

_COUNTS = (1, 1, 1, 2, 3)  # instructions of a case
_STATES = 4  # cases with one code

# What decides that the machine is in 64-bit mode with 4-level paging: the bases set it, cases leave it alone.
_MODE = frozenset(
    {"PE", "PG", "ET", "PAE", "LME", "LMA", "LA57", "PCIDE", "VMXE", "SMXE", "VM", "CET", "PKE", "PKS"}
)
_SYSTEM_REGISTERS = (("CR0", 0x80050033, "Cr0"), ("CR4", 0x20, "Cr4"), ("EFER", 0xD01, "Efer"))
_SPECIAL = 0.2  # how often a case has special states
_SPECIAL_COUNTS = (1, 1, 2)
_OTHER_TABLES = 0.2  # how often a case changes page tables
_ENTRY_COUNTS = (1, 1, 2, 3)
_SYSTEM_FLAGS = frozenset({"TF", "IF", "NT", "RF", "AC", "VIF", "VIP", "ID"})
_RFLAGS_FIXED = 2

_STARTS = (CODE, CODE, CODE + 1, CODE + 0x800, CODE + PAGE_SIZE - 2, CODE + PAGE_SIZE - 9)
_PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x64, 0x40, 0x48)
_REPEATS = {"rep": ("rep",), "repe": ("repe", "repne")}  # attributes of rows: the prefixes they take
_RCX = 1
_CODE_RANGE = range(CODE, CODE + 2 * PAGE_SIZE)


@dataclass(frozen=True)
class Scope:
    """What cases for an engine may have.

    Bases, flags, control bits, states and page tables other than the base's, and instructions that store to the page
    they stand in.
    """

    bases: tuple[str, ...] = BASES
    forbidden_flags: frozenset[str] = frozenset()
    control_bits: bool = True
    changes_code: bool = True
    states: tuple[SpecialState, ...] = ()
    tables: bool = True


@dataclass
class Generator:
    """Draws cases over some instructions of a program; `weights` say how often each is drawn."""

    program: Program
    names: Sequence[str]
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        self._encoder = Encoder(self.program)
        self._forms: dict[str, list[Form]] = {}
        chosen = set(self.names)
        for form in forms(self.program):
            if form.instruction.name in chosen:
                self._forms.setdefault(form.instruction.name, []).append(form)
        self._names = list(self._forms)
        special = boundaries()
        self._values = {n: (*special, *constants_of(self.program.instructions[n])) for n in self._forms}
        excluded = _MODE | self.scope.forbidden_flags
        self._status = flag_bits(self.program, "Rflags", excluded | _SYSTEM_FLAGS)
        self._flags = flag_bits(self.program, "Rflags", excluded)
        self._controls = [
            (name, base ^ bit)
            for name, base, type_ in _SYSTEM_REGISTERS
            for bit in flag_bits(self.program, type_, _MODE)
        ]
        self._targets = (
            TARGETS if self.scope.changes_code else tuple(t for t in TARGETS if t not in _CODE_RANGE)
        )
        self._tables = TableChanges()
        self.weigh({})

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Draws an instruction as often as its weight says (1 where there is none)."""
        self._weights = list(accumulate(weights.get(name, 1.0) for name in self._names))

    def reward(self, case: Case) -> None:
        """Notes that a case reached something new: page-table entries that it changes are drawn more often."""
        self._tables.reward(address for address, _ in case.memory)

    def batch(self, source: Random, count: int) -> list[Case]:
        """Cases that all start from one base, a few with each code."""
        base = source.choice(self.scope.bases)
        cases: list[Case] = []
        while len(cases) < count:
            cases += self._cases(source, base)
        return cases[:count]

    def _cases(self, source: Random, base: str) -> Iterator[Case]:
        """Cases with one code: decoding it, and translating it, costs more than running it."""
        draft = self.draft(source, base)
        for _ in range(_STATES):
            yield self._finish(draft, base)

    def draft(self, source: Random, base: str) -> Draft:
        """A code of a few instructions, and what its operands need."""
        draft = self._draft(source, self._drawn(source))
        if self.scope.tables and source.random() < _OTHER_TABLES:
            addresses = [draft.address, STACK_TOP - 8, *draft.operands * 4]
            mapped = [address for address in addresses if is_mapped(address)]
            for _ in range(source.choice(_ENTRY_COUNTS)):
                draft.entries.append(self._tables.draw(source, base, mapped))
        return draft

    def value(self, draft: Draft) -> int:
        """A 64-bit number for a register or a word of memory of a draft."""
        return draw_value(draft.source, self._values[draft.names[-1]])

    def of_form(self, source: Random, form: Form, base: str) -> Case:
        """A case with one instruction, of this form."""
        return self._finish(self._draft(source, [form]), base)

    @property
    def forms(self) -> list[Form]:
        """All forms of the instructions that are drawn."""
        return [form for forms_ in self._forms.values() for form in forms_]

    def _drawn(self, source: Random) -> list[Form]:
        names = source.choices(self._names, cum_weights=self._weights, k=source.choice(_COUNTS))
        return [source.choice(self._forms[name]) for name in names]

    def _draft(self, source: Random, forms_: list[Form]) -> Draft:
        """The code of a case, and what its operands need."""
        draft = Draft(source, source.choice(_STARTS), self._targets)
        draft.state["RIP"] = draft.address
        draft.names = [form.instruction.name for form in forms_]
        for form in forms_:
            draft.code += self._instruction(form, draft)
        return draft

    def _finish(self, draft: Draft, base: str) -> Case:
        """A case with the draft's code: with its own values, the next time with others."""
        state, memory = draft.state.copy(), draft.memory.copy()
        self._draw_stack(draft)
        self._draw_flags(draft)
        self._draw_states(draft, base)
        case = Case(
            kind="fuzz",
            id="fuzz",
            code=draft.code,
            instruction=draft.names[0],
            base=base,
            steps=draft.steps,
            state=draft.state,
            memory=(*draft.memory.items(), *(entry.word(draft.source) for entry in draft.entries)),
        )
        values = self._values[draft.names[-1]]
        draft.state = state | {name: draw_value(draft.source, values) for name in draft.values}
        draft.memory = {address: draft.new_content(values) for address in memory}
        return case

    def _instruction(self, form: Form, draft: Draft) -> bytes:
        """The bytes of a form with drawn operands; NOP where the operands cannot be encoded together."""
        drawn = Operands(draft, self._values[form.instruction.name])
        operands: dict[str, Operand] = {}
        codes, widths = form.pattern.operands, form.widths()
        for name, code, width in zip(form.instruction.operands, codes, widths, strict=True):
            operands[name] = drawn.operand(code, width, form.size)
        repeat = self._repeat(form, draft)
        encoded = self._encoder.encode_form(form, operands, draft.next_address, repeat) or NOP
        if draft.source.random() < 0.08:
            return bytes((draft.source.choice(_PREFIXES),)) + encoded
        return encoded

    @staticmethod
    def _repeat(form: Form, draft: Draft) -> str:
        """A prefix that repeats the instruction a few times, or none."""
        draft.steps += 1
        for attribute in form.row.attributes:
            if attribute in _REPEATS and draft.source.random() < 0.6:
                count = draft.source.randrange(4)
                noise = 0 if draft.source.random() < 0.8 else 1 << 32
                draft.state.setdefault(f"GPR[{_RCX}]", count | noise)
                draft.steps += min(count, 2)
                return draft.source.choice(_REPEATS[attribute])
        return ""

    @staticmethod
    def _draw_stack(draft: Draft) -> None:
        """Sometimes another stack, and on it an address to return to."""
        source = draft.source
        if source.random() < 0.15:
            draft.state.setdefault(f"GPR[{RSP}]", source.choice(draft.targets))
        if source.random() < 0.3:
            draft.put_on_stack(draft.address + source.randrange(-8, 64))

    def flags(self, source: Random) -> int:
        """RFLAGS: any status flags, and sometimes another one."""
        chosen = source.getrandbits(len(self._status))
        flags = sum(bit for n, bit in enumerate(self._status) if chosen >> n & 1)
        if source.random() < 0.25:
            flags |= source.choice(self._flags)
        return _RFLAGS_FIXED | flags

    def _draw_flags(self, draft: Draft) -> None:
        source, state = draft.source, draft.state
        state["RFLAGS"] = self.flags(source)
        if self.scope.control_bits and source.random() < 0.3:
            name, value = source.choice(self._controls)
            state[name] = value

    def _draw_states(self, draft: Draft, base: str) -> None:
        """Sometimes special states."""
        source = draft.source
        if not self.scope.states or source.random() >= _SPECIAL:
            return
        for special in source.sample(self.scope.states, source.choice(_SPECIAL_COUNTS)):
            if not special.of_guests or base.startswith("guest-"):
                draft.state[special.item] = special.value
