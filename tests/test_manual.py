"""Functions that other theorems share, and the rules of VM entry, are what the manual says; each has a fault that is
found.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import z3
from broken_specification import refuted_case

import grammar
from checks.function_case import replay
from checks.gallery.bugs import Bug, Patch, with_bug
from checks.manual.expected import EXPECTATIONS
from checks.manual.family import RULES, ManualFamily
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from checks.walk import names_in
from grammar import ir
from refmodel.model import Model, build

PROGRAM = grammar.load()
FAMILY = ManualFamily()

ENTRY, GUEST = "vmx/entry_checks.isa", "vmx/guest_checks.isa"
CR, MSR, CONTROLS = "instructions/control_registers.isa", "instructions/msr.isa", "vmx/controls.isa"
FAULTS = {
    "is_canonical": ("cpu/memory.isa", "sign_extend(address[47..0], 64)", "sign_extend(address[46..0], 64)"),
    "is_valid_cr0": (CR, "(value.CD or not value.NW)", "(value.NW or not value.CD)"),
    "is_valid_cr4": (CR, "or CR3[11..0] == 0", "or CR3[10..0] == 0"),
    "has_host_nmis": ("cpu/registers.isa", "and not PIN_BASED_CONTROLS.VIRTUAL_NMIS", ""),
    "secondary": (CONTROLS, "if PRIMARY_CONTROLS.ACTIVATE_SECONDARY_CONTROLS then", "if IN_NON_ROOT then"),
    "visible_tsc": (CONTROLS, "TSC_OFFSET + (if", "(if"),
    "bitmap_bit": ("vmx/bitmaps.isa", "byte[index[2..0]]", "byte[7 - index[2..0]]"),
    "is_msr_intercepted": ("vmx/bitmaps.isa", "_BITS : bits(32) = 0x4000", "_BITS : bits(32) = 0x6000"),
    "is_port_in_bitmap": ("vmx/bitmaps.isa", "IO_BITMAP_B else IO_BITMAP_A", "IO_BITMAP_A else IO_BITMAP_B"),
    "io_exits": ("vmx/bitmaps.isa", "var exits = last < port", "var exits = false"),
    "is_cr3_target": ("vmx/bitmaps.isa", "CR3_TARGET_COUNT > 1 and", "CR3_TARGET_COUNT > 0 and"),
    "is_system_call_msr": (MSR, "IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK,", "IA32_STAR, IA32_LSTAR,"),
    "virtual_tpr_place": ("vmx/virtual_apic.isa", "VIRTUAL_APIC_ADDRESS +", "APIC_ACCESS_ADDRESS +"),
    "is_allowed": (ENTRY, "value & ~may_be_1 == 0", "value & may_be_1 == may_be_1"),
    "is_page_address": (ENTRY, "address[11..0] == 0", "address[10..0] == 0"),
    "is_ept_pointer": (ENTRY, "MEMORY_TYPE in {0, 6}", "MEMORY_TYPE in {0, 4}"),
    "is_efer_for": (ENTRY, "and efer.LME == ia32e_mode", ""),
    "is_injectable_vector": (ENTRY, "then vector < 32", "then vector <= 32"),
    "is_injectable_error": (ENTRY, "in {8, 10, 11, 12, 13, 14, 17}", "in {8, 9, 10, 11, 12, 13, 14, 17}"),
    "is_injectable_length": (ENTRY, "ENTRY_INSTRUCTION_LENGTH <= 15", "ENTRY_INSTRUCTION_LENGTH < 15"),
    "is_msr_area": (
        "vmx/msr_areas.isa",
        "<< 4) as host_physical) - 1\n  return",
        "<< 4) as host_physical)\n  return",
    ),
    "is_valid_pat": (MSR, "in {0, 1, 4, 5, 6, 7}", "in {0, 1, 3, 4, 5, 6, 7}"),
    "can_wake": (GUEST, "vector in {1, 18}", "vector in {1, 2}"),
    "is_after_instruction": (GUEST, "STATE.BLOCKING_BY_MOV_SS)\n\n", "STATE.BLOCKING_BY_SMI)\n\n"),
    "is_single_stepping": (GUEST, "DEBUGCTL_BTF : bits(8) = 1", "DEBUGCTL_BTF : bits(8) = 0"),
    "is_limit_valid": (
        GUEST,
        "(limit[11..0] == 0xFFF or not rights.G)",
        "(limit[11..0] != 0 or not rights.G)",
    ),
    "is_data_valid": (GUEST, "rights.DPL >= selector[1..0]", "rights.DPL > selector[1..0]"),
    "is_code_privilege_valid": (GUEST, "code.TYPE in {9, 11}", "code.TYPE in {9, 10}"),
    "unrestricted_cr0": (GUEST, "Cr0 { PE: true, PG: true }", "Cr0 { PG: true }"),
}
"""By function: a file of the specification, what is there, and a fault."""
USED_BY_OTHERS = frozenset({"bitmap_bit", "secondary", "is_limit_valid"})
"""Their faults are faults of other functions too, so they are made apart."""


@cache
def faulty(functions: frozenset[str]) -> ir.Program:
    """The program with the faults of some functions."""
    return with_bug(Bug("", "", "", "", "", tuple(Patch(*FAULTS[name]) for name in functions)), None)


@cache
def model_of(functions: frozenset[str]) -> Model:
    """The reference with these faults, without instructions, which would take long to make."""
    return build(replace(faulty(functions), instructions={}))


def results(program: ir.Program, group: str) -> list[Result]:
    """The verdicts on a group."""
    return list(GroupRunner(FAMILY.build(program, f"manual.{group}", z3.Context()), Limits()).run())


def proved(program: ir.Program, function: str) -> Result:
    """The verdict on the only goal about a function."""
    (result,) = results(program, function)
    return result


@pytest.mark.parametrize("function", EXPECTATIONS)
def test_the_manual_is_kept(function: str) -> None:
    assert proved(PROGRAM, function).status is Status.PROVED


@pytest.mark.parametrize("function", EXPECTATIONS)
def test_fault_is_refuted(function: str) -> None:
    apart = function in USED_BY_OTHERS
    result = proved(faulty(USED_BY_OTHERS if apart else frozenset(FAULTS) - USED_BY_OTHERS), function)
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    told = {row[0]: row[1] for row in result.counterexample.rows}
    assert told["returned"] != told["expected"]
    case = refuted_case(result)
    assert replay(case, model_of(USED_BY_OTHERS if apart else frozenset(FAULTS) - USED_BY_OTHERS)) == 0
    assert replay(case, model_of(frozenset())) == 1


@cache
def with_rules(accepts: int) -> tuple[ir.Program, Model]:
    """The program with rules that accept everything, or nothing, and the reference."""
    answer = ir.Literal(ir.BOOL, accepts)
    rules = {
        name: replace(group, rules=tuple(replace(rule, condition=answer) for rule in group.rules))
        for name, group in PROGRAM.rules.items()
    }
    wrong = replace(PROGRAM, rules=rules)
    return wrong, build(replace(wrong, instructions={}))


@pytest.mark.parametrize("group", RULES)
def test_vm_entry_checks_what_the_manual_says(group: str) -> None:
    assert {result.status for result in results(PROGRAM, group)} == {Status.PROVED}


@pytest.mark.parametrize("accepts", [0, 1])
@pytest.mark.parametrize("group", RULES)
def test_a_rule_that_accepts_all_or_nothing_is_refuted(group: str, accepts: int) -> None:
    """And the reference with such rules confirms each counterexample; the right one does not."""
    program, model = with_rules(accepts)
    found = results(program, group)
    assert len(found) == len(PROGRAM.rules[group].rules)
    for case in map(refuted_case, found):
        assert replay(case, model) == 0
        assert replay(case, model_of(frozenset())) == 1


def test_all_rules_that_vm_entry_asks_for_have_an_expectation() -> None:
    """The others are the VMM's own promises."""
    asked = {group for f in PROGRAM.functions.values() for group in names_in(f).rules}
    assert asked == set(RULES)


def test_all_expectations_are_of_functions_and_rules_of_the_specification() -> None:
    assert {outline.group.removeprefix("manual.") for outline in FAMILY.outlines(PROGRAM)} == {
        *EXPECTATIONS,
        *RULES,
    }
