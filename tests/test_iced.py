"""The opcode tables against iced-x86 over the space of encodings."""

from __future__ import annotations

import pytest

import grammar

pytest.importorskip("iced_x86")

from checks.encodings import Comparison, sampled_codes
from checks.encodings.enumerate import OTHERS, PREFIXES

PROGRAM = grammar.load()


@pytest.mark.parametrize("code_size", [64, 32])
def test_every_code_is_read_alike(code_size: int) -> None:
    comparison = Comparison(PROGRAM, code_size)
    unexplained = [str(d) for d in comparison.differences(sampled_codes(code_size)) if not d.reason]
    assert not unexplained
    assert comparison.agreed > 100_000


def test_codes_cover_the_prefixes() -> None:
    first = {code[0] for _, _, code in sampled_codes(64)}
    assert first >= {*PREFIXES[1:], *OTHERS, *range(0x40, 0x50)}
