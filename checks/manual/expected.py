"""What the manual says, written down once more: by bit positions and layouts, without a function of the specification.

An expectation gets an arbitrary machine and the arguments of the function of the specification that has its name, and
returns what that function has to.
"""

from __future__ import annotations

from typing import cast

import z3

from checks.manual.entry import ENTRY, Expectation
from checks.manual.machine import Machine, bit

CS = 1
SYSTEM_CALL_MSRS = (0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103)
"""STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE and TSC_AUX.  SDM 4 2.1, table 2-2"""
CR4_FEATURES = (*range(12), 13, 16, 17, 18, 20, 21)
"""VME to UMIP, VMXE, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP; this processor reserves the others.  SDM 3A 2.5"""


def _bit_of_byte(machine: Machine, address: z3.BitVecRef, number: z3.BitVecRef) -> z3.BoolRef:
    """Bit `number`, of 3 bits, of the byte at an address."""
    shifted = z3.LShR(machine.byte(address), z3.ZeroExt(5, number))
    return bit(shifted, 0)


def is_canonical(_: Machine, address: z3.BitVecRef) -> z3.ExprRef:
    """Bits 63 to 47 are equal.  SDM 1 3.3.7.1"""
    top = z3.Extract(63, 47, address)
    return z3.Or(top == 0, top == (1 << 17) - 1)


def is_valid_cr0(machine: Machine, value: z3.BitVecRef) -> z3.ExprRef:
    """Bits 63 to 32 are reserved, NW needs CD, PG stays in 64-bit mode, and PE too, since there is no real mode here.
    VMX operation fixes PE, NE and PG.  SDM 2B "MOV—Move to/from Control Registers", 3D A.7
    """
    pe, ne, nw, cd, pg = (bit(value, number) for number in (0, 5, 29, 30, 31))
    is_64_bit = bit(machine.element("SEGMENT_RIGHTS", CS), 13)
    fixed = z3.Implies(machine.flag("IN_NON_ROOT"), z3.And(pe, ne, pg))
    return z3.And(z3.Extract(63, 32, value) == 0, pe, z3.Implies(nw, cd), z3.Implies(is_64_bit, pg), fixed)


def is_valid_cr4(machine: Machine, value: z3.BitVecRef) -> z3.ExprRef:
    """No reserved bit is set; in IA-32e mode PAE stays and LA57 does not change; PCIDE is set only while the PCID is 0.
    VMX operation fixes VMXE.  SDM 2B "MOV—Move to/from Control Registers", 3A 4.10.1, 3D A.8
    """
    reserved = [z3.Not(bit(value, number)) for number in range(64) if number not in CR4_FEATURES]
    sets_pcide = z3.And(bit(value, 17), z3.Not(bit(machine.register("CR4"), 17)))
    pcid = z3.Extract(11, 0, machine.register("CR3"))
    return z3.And(
        *reserved,
        bit(value, 5),
        bit(value, 12) == bit(machine.register("CR4"), 12),
        z3.Implies(sets_pcide, pcid == 0),
        z3.Implies(machine.flag("IN_NON_ROOT"), bit(value, 13)),
    )


def has_host_nmis(machine: Machine) -> z3.ExprRef:
    """ "NMI exiting" (bit 3) is set, and "virtual NMIs" (bit 5) is not.  SDM 3C 25.6.1"""
    controls = machine.register("PIN_BASED_CONTROLS")
    return z3.And(bit(controls, 3), z3.Not(bit(controls, 5)))


def secondary(machine: Machine) -> z3.ExprRef:
    """The secondary controls count as 0 unless bit 31 of the primary ones is set.  SDM 3C 25.6.2"""
    controls = machine.register("SECONDARY_CONTROLS")
    return z3.If(bit(machine.register("PRIMARY_CONTROLS"), 31), controls, controls ^ controls)


def visible_tsc(machine: Machine) -> z3.ExprRef:
    """With "use TSC offsetting" (primary bit 3) the offset is added; with "use TSC scaling" (secondary bit 25) the
    counter is multiplied first, and shifted right by 48.  SDM 3C 25.6.5, 26.3
    """
    counter, multiplier = machine.register("TSC"), machine.register("TSC_MULTIPLIER")
    product = z3.ZeroExt(64, counter) * z3.ZeroExt(64, multiplier)
    is_scaled = bit(cast(z3.BitVecRef, secondary(machine)), 25)
    scaled = z3.If(is_scaled, z3.Extract(111, 48, product), counter)
    is_offset = z3.And(machine.flag("IN_NON_ROOT"), bit(machine.register("PRIMARY_CONTROLS"), 3))
    return z3.If(is_offset, scaled + machine.register("TSC_OFFSET"), counter)


def bitmap_bit(machine: Machine, bitmap: z3.BitVecRef, index: z3.BitVecRef) -> z3.ExprRef:
    """Bit `index` of a bitmap is bit `index` mod 8 of byte `index` / 8."""
    byte = z3.ZeroExt(32, z3.UDiv(index, z3.BitVecVal(8, 32, index.ctx)))
    return _bit_of_byte(machine, bitmap + byte, z3.Extract(2, 0, index))


def is_msr_intercepted(machine: Machine, index: z3.BitVecRef, access: z3.BitVecRef) -> z3.ExprRef:
    """Four bitmaps of 1 KiB: reads of MSRs 0 to 1FFF, reads of C0000000 to C0001FFF, writes of the former, writes of
    the latter. Other MSRs exit, and all do if "use MSR bitmaps" (primary bit 28) is not set.  SDM 3C 25.6.9, 26.1.3
    """
    group, is_high, byte, number = (
        z3.Extract(*bits, index) for bits in ((31, 13), (31, 31), (12, 3), (2, 0))
    )
    is_write = z3.If(access == 1, z3.BitVecVal(1, 1, index.ctx), 0)
    offset = z3.ZeroExt(52, z3.Concat(is_write, is_high, byte))
    is_used = bit(machine.register("PRIMARY_CONTROLS"), 28)
    has_none = z3.And(group != 0, group != 0xC0000000 >> 13)
    return z3.Or(
        z3.Not(is_used), has_none, _bit_of_byte(machine, machine.register("MSR_BITMAP") + offset, number)
    )


def is_port_in_bitmap(machine: Machine, port: z3.BitVecRef) -> z3.ExprRef:
    """Bitmap A has a bit for each port below 8000, bitmap B for the others.  SDM 3C 25.6.4"""
    is_high = bit(port, 15)
    bitmap = z3.If(is_high, machine.register("IO_BITMAP_B"), machine.register("IO_BITMAP_A"))
    byte = z3.ZeroExt(52, z3.Extract(14, 3, port))
    return _bit_of_byte(machine, bitmap + byte, z3.Extract(2, 0, port))


def io_exits(machine: Machine, port: z3.BitVecRef, size: z3.BitVecRef) -> z3.ExprRef:
    """With "use I/O bitmaps" (primary bit 25) an access exits if one of its ports, four at most, has its bit set, or if
    it goes beyond port FFFF; without, if "unconditional I/O exiting" (bit 24) is set.  SDM 3C 26.1.3
    """
    controls = machine.register("PRIMARY_CONTROLS")
    last = z3.ZeroExt(1, port) + z3.ZeroExt(14, size - 1)
    ports = [z3.And(z3.UGT(size, i), is_port_in_bitmap(machine, port + i)) for i in range(4)]
    return z3.If(bit(controls, 25), z3.Or(bit(last, 16), *ports), bit(controls, 24))


def is_cr3_target(machine: Machine, value: z3.BitVecRef) -> z3.ExprRef:
    """The value is one of the first `CR3-target count` of four.  SDM 3C 25.6.7"""
    count = machine.register("CR3_TARGET_COUNT")
    targets = [machine.register(f"CR3_TARGET_VALUE_{i}") for i in range(4)]
    return z3.Or(*(z3.And(z3.UGT(count, i), value == target) for i, target in enumerate(targets)))


def is_system_call_msr(_: Machine, index: z3.BitVecRef) -> z3.ExprRef:
    """SYSCALL, SWAPGS and RDTSCP use six MSRs.  SDM 2B "SYSCALL", "SWAPGS", "RDTSCP" """
    return z3.Or(*(index == number for number in SYSTEM_CALL_MSRS))


def virtual_tpr_place(machine: Machine) -> z3.ExprRef:
    """VTPR is at offset 80 (hexadecimal) of the virtual-APIC page.  SDM 3C 30.1.1"""
    return machine.register("VIRTUAL_APIC_ADDRESS") + 0x80


EXPECTATIONS: dict[str, Expectation] = {
    one.__name__: one
    for one in (
        *(is_canonical, is_valid_cr0, is_valid_cr4, has_host_nmis, secondary, visible_tsc),
        *(bitmap_bit, is_msr_intercepted, is_port_in_bitmap, io_exits, is_cr3_target),
        *(is_system_call_msr, virtual_tpr_place),
    )
} | ENTRY
"""By the name of the function of the specification."""
