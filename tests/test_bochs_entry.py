"""The rules of VM entry against Bochs: for each fault in a rule, a VMCS that tells it from the right rule; Bochs
treats it as the right rule says.  SDM 3C 27.2, 27.3
"""

from __future__ import annotations

import mmap
from functools import cache

import pytest
from entry_cases import MEMORY, Cases, Entry
from vmx_guest import VALID

import grammar
from checks.errors import UsageError
from checks.fuzz.bochs import library
from checks.fuzz.bochs.processor import EXITED, FAILED, Processor, processor
from checks.fuzz.bochs.watch import address_of
from checks.manual.family import RULES
from checks.mutate.places import mutants
from refmodel.encoder import Encoder

try:
    library.load()
except (ModuleNotFoundError, UsageError) as error:
    pytest.skip(str(error), allow_module_level=True)

PROGRAM = grammar.load()
FAULTS = [mutant for mutant in mutants(PROGRAM) if mutant.kind == "rules"]
NUMBERS = {v.name: v.encoding for v in PROGRAM.state_in("vmcs") if v.encoding is not None}
INSTRUCTION_ERROR, EXIT_REASON, ENTRY_FAILURE = 0x4400, 0x4402, 1 << 31
ENTERED, REJECTED = "entered", "invalid guest state"
HOW_REFUSED = {"control_rules": "error 7", "host_rules": "error 8"}
"""By group of rules, how a VM entry fails that breaks one.  SDM 3C 27, 31.4"""

EXCEPTED = {
    "guest_register_rules.debugctl": "reserved bits of IA32_DEBUGCTL",
    "guest_activity_rules.rip": "that RIP is canonical; see the rule",
    "guest_activity_rules.activity_and_event": "that no software interrupt ends the HLT state",
    "guest_activity_rules.blocking_by_nmi": "that virtual NMIs are not blocked where one is injected",
    "guest_activity_rules.pending_single_step": "that BS fits RFLAGS.TF",
    "guest_register_rules.ia32e_mode": "that the guest is in IA-32e mode, which the specification alone asks for",
}
"""By rule, what Bochs does not check."""


@cache
def bochs() -> Processor:
    return processor(Encoder(PROGRAM))


@cache
def cases() -> Cases:
    host = {
        name: bochs().host_state[number] for name, number in NUMBERS.items() if number in bochs().host_state
    }
    base = {**dict.fromkeys(NUMBERS, 0), **VALID, "TSC_MULTIPLIER": 1 << 48, **host}
    return Cases(PROGRAM, frozenset(RULES), base)


@pytest.fixture(scope="module")
def memory() -> mmap.mmap:
    found = mmap.mmap(-1, MEMORY)
    bochs().share(address_of(found), MEMORY)
    return found


def what_bochs_does(entry: Entry, memory: mmap.mmap) -> str:
    """Enters the guest, or says how it is refused."""
    memory[:] = bytes(MEMORY)
    for address, value in entry.memory.items():
        memory[address] = value
    fields = {number: entry.fields[name] for name, number in NUMBERS.items()}
    bochs().load(fields, host={n: v for n, v in fields.items() if n in bochs().host_state})
    run = bochs().enter([0] * 16, {}, limit=1, at_once=True)
    left = bochs().fields()
    if run.end == FAILED:
        return f"error {left[INSTRUCTION_ERROR]}"
    return REJECTED if run.end == EXITED and left[EXIT_REASON] & ENTRY_FAILURE else ENTERED


def can_be_run(entry: Entry, group: str) -> bool:
    """A guest that is entered has to come back: to a host that works, and not from a wait for nothing."""
    waits = (
        entry.fields["GUEST_ACTIVITY_STATE"] != 0 and not entry.fields["ENTRY_INTERRUPTION_INFORMATION"] >> 31
    )
    return not (waits or group == "host_rules")


@pytest.mark.parametrize("group", RULES)
def test_bochs_checks_what_each_rule_says(group: str, memory: mmap.mmap) -> None:
    """But for the exceptions. (Which of them show depends on what the solver finds.)"""
    refused, excepted = 0, {rule for rule in EXCEPTED if rule.startswith(f"{group}.")}
    seen: set[str] = set()
    for mutant in (one for one in FAULTS if one.name.startswith(f"{group}.")):
        for entry in cases().telling(mutant):
            may_enter = entry.is_accepted or mutant.name in EXCEPTED
            if may_enter and not can_be_run(entry, group):
                continue
            expected = ENTERED if entry.is_accepted else HOW_REFUSED.get(group, REJECTED)
            done = what_bochs_does(entry, memory)
            if mutant.name in EXCEPTED and done != expected:
                seen.add(mutant.name)
            else:
                assert done == expected, (mutant, entry)
                refused += not entry.is_accepted
    assert seen <= excepted
    assert bool(seen) == bool(excepted)
    assert refused >= len(PROGRAM.rules[group].rules) - len(excepted)
