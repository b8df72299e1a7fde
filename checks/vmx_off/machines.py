"""The two machines of ring compression: the virtual one, at CPL 0, and the processor that runs its code at CPL 3.

Registers that every program may use are the same in both. All others are the VMM's own on the processor, and kept by
the VMM for the guest: the two have nothing to do with each other, except where the VMM sets the processor's as the
guest has them, so that code may use what the guest allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import AbstractTerms, Terms, Truth, Vector
from checks.symbolic.values import Point, Value, key, width_of
from checks.trap.contract import LINEAR, Contract
from checks.trap.initial import Symbols
from checks.trap.ownership import Ownership
from checks.trap.runs import LINEAR_WIDTH, Settings
from checks.trap.unknown import Unknowns
from grammar import ir

ALL = -1
SHARED_BITS = {
    # The registers of programs.  SDM 1 3.4
    "GPR": ALL,
    "RIP": ALL,
    "NEXT_RIP": ALL,
    # All flags but IF, IOPL, VM, VIF and VIP, which are privileged.  SDM 1 3.4.3
    "RFLAGS": ~(1 << 9 | 3 << 12 | 1 << 17 | 1 << 19 | 1 << 20),
    # What addresses and the mode are made of, but not the DPL.  SDM 3A 3.4.5
    "SEGMENT_BASE": ALL,
    "SEGMENT_LIMIT": ALL,
    "SEGMENT_RIGHTS": ~(3 << 5),
    # What says what code may use: MP, EM and TS of CR0, CR4, and the extended state.  SDM 3A 2.5, 2.6
    "CR0": 0b1110,
    "CR4": ALL,
    "XCR0": ALL,
    "AVX_STATE": ALL,
    "X87_STATE": ALL,
    "SSE_STATE": ALL,
    "MXCSR": ALL,
    # The virtual machine has the processor's SSE.  SDM 1 11.6.6
    "MXCSR_MASK": ALL,
}
"""The bits of each register that both machines share; of segment registers, those of ES, CS, SS, DS, FS and GS."""

CS, SS, LDTR, TR = 1, 2, 6, 7
VIRTUAL, REAL = "virtual", "real"


@dataclass(frozen=True, slots=True)
class Features:
    """Bits of CR4 that make instructions privileged, or not."""

    UMIP: bool
    TSD: bool
    PCE: bool


OPEN = Features(UMIP=False, TSD=False, PCE=True)
"""As on the processors that Robin and Irvine looked at."""

CLOSED = Features(UMIP=True, TSD=True, PCE=False)
"""As many instructions as possible are privileged."""

ALONE = {
    "UMIP": Features(UMIP=True, TSD=False, PCE=True),
    "TSD": Features(UMIP=False, TSD=True, PCE=True),
    "PCE": Features(UMIP=False, TSD=False, PCE=False),
}
"""Each of the bits by itself set to what makes instructions privileged."""


@dataclass(slots=True)
class MachineSource:
    """The initial values of one of the machines, `side`."""

    symbols: Symbols
    side: str
    mode: str

    def scalar(self, variable: ir.StateVariable) -> Value:
        """The initial value of a variable that is not indexed."""
        return False if variable.name == self.mode else self.element(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        name, terms, width = variable.name, self.symbols.terms, width_of(variable.type)
        mask = shared_mask(terms, variable, point)
        own = self.symbols.value(f"{name}!{self.side}", variable, point)
        if mask == 0:
            return own
        shared = self.symbols.value(name, variable, point)
        if mask == (1 << width) - 1:
            return shared
        left = terms.arithmetic("&", cast(Vector, shared), mask, width)
        kept = terms.complement(mask, width)
        return terms.arithmetic("|", left, terms.arithmetic("&", cast(Vector, own), kept, width), width)


def shared_mask(terms: Terms, variable: ir.StateVariable, point: Point) -> Vector:
    """The bits of a register that both machines share."""
    width = width_of(variable.type)
    mask = SHARED_BITS.get(variable.name, 0) & (1 << width) - 1
    if not variable.name.startswith("SEGMENT_") or not mask:
        return mask
    segment = cast(Vector, point[0])
    return terms.choose(terms.compare("<", segment, LDTR, 3), mask, 0, width)


def machines(ownership: Ownership, context: z3.Context) -> Settings:
    """The settings of a group: `first` is the processor, `second` and `bare` the virtual machine."""
    program, terms = ownership.program, AbstractTerms(context)
    symbols, mode = Symbols(terms), program.aborts["VmExit"].guard
    assert isinstance(mode, ir.Read)
    widths = {name: memory.address.width for name, memory in program.memories.items()} | {
        LINEAR: LINEAR_WIDTH
    }
    memories = {
        name: ByteMemory(terms, width, _bytes(symbols, name, width)) for name, width in widths.items()
    }
    real, virtual = (
        State(Surroundings(program, terms, MachineSource(symbols, side, mode.name), dict(memories)))
        for side in (REAL, VIRTUAL)
    )
    contract = Contract(program, ownership.inputs, Unknowns(terms))
    evaluator = Evaluator(program, terms)
    for (
        expression
    ) in ownership.all_inputs():  # the VMM's page tables give the guest's kernel what the guest's give it
        a, b = (evaluator.pure(expression, state) for state in (real, virtual))
        contract.alike.update((key(one), b) for one in (a, b) if isinstance(one, z3.AstRef))
    return Settings(program, terms, symbols, real, virtual, virtual, contract, mode.name)


def _bytes(symbols: Symbols, name: str, width: int) -> Callable[[Vector], Vector]:
    return lambda address: symbols.byte(name, address, width)


def assumptions(settings: Settings, features: Features) -> list[Truth]:
    """What holds of the machines: their privilege levels, and what the VMM sets so that most instructions trap."""
    return [
        *_level(settings, settings.first, 3),
        *_level(settings, settings.second, 0),
        *_control_registers(settings),
        *_features(settings, features),
        *_traps(settings),
    ]


def _level(settings: Settings, state: State, level: int) -> list[Truth]:
    """The CPL, in the three places that have it.  SDM 3A 5.5"""
    terms = settings.terms
    rights = cast(Vector, state.elements("SEGMENT_RIGHTS").read((SS,)))
    selectors = [cast(Vector, state.elements("SEGMENT_SELECTOR").read((one,))) for one in (CS, SS)]
    parts = [terms.extract(rights, 6, 5), *(terms.extract(one, 1, 0) for one in selectors)]
    return [terms.equal(part, level, 2) for part in parts]


def _control_registers(settings: Settings) -> list[Truth]:
    """CR0 and CR4 hold what a processor can hold in 64-bit mode."""
    evaluator, program = Evaluator(settings.program, settings.terms), settings.program
    return [
        cast(
            Truth,
            evaluator.pure(ir.Call(ir.BOOL, f"is_valid_{name.lower()}", (_read(program, name),)), state),
        )
        for state in (settings.first, settings.second)
        for name in ("CR0", "CR4")
    ]


def _read(program: ir.Program, name: str) -> ir.Read:
    return ir.Read(program.state[name].type, name, ())


def _features(settings: Settings, features: Features) -> list[Truth]:
    terms = settings.terms
    bits = {"UMIP": features.UMIP, "TSD": features.TSD, "PCE": features.PCE, "PVI": False, "VME": False}
    type_ = settings.program.state["CR4"].type
    assert isinstance(type_, ir.Bitfield)
    value = cast(Vector, settings.first.get("CR4"))
    found = []
    for name, is_set in bits.items():
        member = type_.member(name)
        assert member is not None
        found.append(terms.equal(terms.extract(value, member.low, member.low), int(is_set), 1))
    return found


def _traps(settings: Settings) -> list[Truth]:
    """IOPL 0, no I/O permission map, and no fast system calls: EFER.SCE and IA32_SYSENTER_CS are 0."""
    terms, real = settings.terms, settings.first
    flags, efer = cast(Vector, real.get("RFLAGS")), cast(Vector, real.get("EFER"))
    limit = cast(Vector, real.elements("SEGMENT_LIMIT").read((TR,)))
    sysenter = settings.program.constants["IA32_SYSENTER_CS"].value
    return [
        terms.equal(terms.extract(flags, 13, 12), 0, 2),
        terms.compare("<", limit, 103, 32),
        terms.equal(terms.extract(efer, 0, 0), 0, 1),
        terms.equal(cast(Vector, real.elements("MSR").read((sysenter,))), 0, 64),
    ]
