"""Nothing is left out without a word: iced-x86's list of instructions against the specification and `missing.isa`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import grammar
from grammar.widths import CODE_SIZES
from refmodel.forms import forms

pytest.importorskip("iced_x86")

import iced_x86

from checks.encodings.known import OTHER_NAMES

PROGRAM = grammar.load()
# What `missing.isa` calls by a name, by the features that CPUID announces (iced-x86's names of them).
PARTS = {
    "PROTECTION_KEYS_AND_CET": "PKU CET_SS UINTR",
    "FLOATING_POINT_AND_VECTORS": "FPU FPU287 FPU387 MMX SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 AES PCLMULQDQ SHA GFNI FXSR"
    " AVX AVX2 FMA F16C AVX_IFMA AVX_NE_CONVERT AVX_VNNI AVX_VNNI_INT8 AVX_VNNI_INT16 VAES VPCLMULQDQ AVX512F AVX512BW"
    " AVX512CD AVX512DQ AVX512ER AVX512PF AVX512VL AVX512_4FMAPS AVX512_4VNNIW AVX512_BITALG AVX512_FP16 AVX512_IFMA"
    " AVX512_VBMI AVX512_VBMI2 AVX512_VNNI AVX512_VPOPCNTDQ AMX_BF16 AMX_COMPLEX AMX_FP16 AMX_INT8 AMX_TILE",
    "BIT_MANIPULATION": "BMI1 BMI2 ADX LZCNT POPCNT MOVBE",
    "TRANSACTIONAL_MEMORY": "RTM HLE_OR_RTM TSXLDTRK",
    "KEY_LOCKER": "KL AESKLE WIDE_KL",
    "LATER_STORES": "MOVDIRI MOVDIR64B ENQCMD CLWB RAO_INT CMPCCXADD",
    "LATER_SYSTEM_INSTRUCTIONS": "RDPID SERIALIZE WRMSRNS MSRLIST PCONFIG TSE HRESET LKGS FRED UDBG",
    "MONITORING": "PTWRITE",
    "SGX": "SGX1 OSS",
    "SMM_AND_SMX": "SMM",
    "TRUST_DOMAINS": "TDX",
    "SVM": "SVM SKINIT_OR_SVM",
}
# Instructions that Intel's processors with VMX never had, or that none of them has any more.
OTHER_PROCESSORS = (
    "CLZERO D3NOW D3NOWEXT FMA4 INVLPGB KNC LWP MCOMMIT MONITORX MPX PADLOCK_ACE PADLOCK_GMI PADLOCK_PHE PADLOCK_PMM"
    " PADLOCK_RNG PADLOCK_UNDOC PCOMMIT RDPRU RMPQUERY SEV_ES SEV_SNP SSE4A TBM XOP"
)
FEATURES = {value: name for name, value in vars(iced_x86.CpuidFeature).items() if isinstance(value, int)}
MNEMONICS = {value: name.lower() for name, value in vars(iced_x86.Mnemonic).items() if isinstance(value, int)}


def instructions_of_64_bit_mode() -> Iterator[tuple[str, set[str]]]:
    """Each encoding that iced-x86 knows: its mnemonic, and the features that it needs."""
    for code in (value for value in vars(iced_x86.Code).values() if isinstance(value, int)):
        information = iced_x86.OpCodeInfo(code)
        if information.is_instruction and information.mode64:
            instruction = iced_x86.Instruction()
            instruction.code = code
            name = MNEMONICS[information.mnemonic]
            yield OTHER_NAMES.get(name, name), {FEATURES[feature] for feature in instruction.cpuid_features()}


def test_every_instruction_is_modelled_or_said_to_be_missing() -> None:
    modelled = {
        mnemonic
        for size in CODE_SIZES
        for form in forms(PROGRAM, size)
        for mnemonic in form.template.mnemonics
    }
    explained = {feature for features in (*PARTS.values(), OTHER_PROCESSORS) for feature in features.split()}
    known = list(instructions_of_64_bit_mode())
    unsaid = {name for name, features in known if name not in modelled and not features & explained}
    assert unsaid == {"wait"}  # x87's, which needs nothing else
    assert len(modelled & {name for name, _ in known}) > 240


def test_the_parts_are_in_the_list() -> None:
    assert set(PARTS) <= PROGRAM.missing.keys()
