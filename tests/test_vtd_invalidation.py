"""What the remapping hardware remembers until it is invalidated.  VT-d 6.2, 6.5.2"""

from __future__ import annotations

from typing import Any

import pytest
from vtd_machine import (
    DEVICE,
    DOMAIN,
    FRAME,
    PAGE,
    PRESENT,
    TABLES,
    WIDTH_48,
    Outcome,
    R,
    W,
    forget_all,
    machine_with_remapping,
    place,
    set_context,
    translate,
)

from refmodel.model import Model


@pytest.fixture
def m(model: Model) -> Any:
    return machine_with_remapping(model)


def iotlb(model: Model, m: Any, granularity: int, domain: int = 0, page: int = 0) -> None:
    model.functions["invalidate_translations"](m, 2 | granularity << 4 | 3 << 6 | domain << 16, page)


def contexts(model: Model, m: Any, granularity: int, source: int = 0, domain: int = 0, mask: int = 0) -> None:
    model.functions["invalidate_contexts"](m, 1 | granularity << 4 | domain << 16 | source << 32 | mask << 48)


def remap(m: Any) -> None:
    """PAGE leads to the next frame, as soon as the hardware notices."""
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME + 0x1000 | R | W)


@pytest.mark.parametrize(
    ("granularity", "domain", "page", "notices"),
    [
        (1, 0, 0, True),  # global
        (2, DOMAIN, 0, True),
        (2, DOMAIN + 1, 0, False),
        (3, DOMAIN, PAGE, True),
        (3, DOMAIN, PAGE + 0x1000, False),
        (3, DOMAIN + 1, PAGE, False),
        (3, DOMAIN, PAGE | 1, True),  # two pages
    ],
)
def test_translations_stay_until_invalidated(
    model: Model, m: Any, granularity: int, domain: int, page: int, notices: bool
) -> None:
    assert translate(model, m, address=PAGE).physical == FRAME
    remap(m)
    assert translate(model, m, address=PAGE).physical == FRAME
    iotlb(model, m, granularity, domain, page)
    assert translate(model, m, address=PAGE).physical == FRAME + (0x1000 if notices else 0)


@pytest.mark.parametrize(
    ("granularity", "source", "domain", "mask", "notices"),
    [
        (1, 0, 0, 0, True),
        (2, 0, DOMAIN, 0, True),
        (3, DEVICE, DOMAIN, 0, True),
        (3, DEVICE + 8, DOMAIN, 0, False),
        (3, DEVICE ^ 1, DOMAIN, 3, True),  # all functions of the device
    ],
)
def test_contexts_stay_until_invalidated(
    model: Model, m: Any, granularity: int, source: int, domain: int, mask: int, notices: bool
) -> None:
    assert translate(model, m).physical is not None
    set_context(m, 0, 0)
    assert translate(model, m).physical is not None
    contexts(model, m, granularity, source, domain, mask)
    assert translate(model, m) == (Outcome(reason=2) if notices else Outcome(FRAME | 0x128))


def test_devices_of_one_domain_share_translations(model: Model, m: Any) -> None:
    """VT-d 6.2.1: the tag is the domain, so tables that differ within a domain are software's mistake."""
    other = DEVICE + 1
    set_context(m, 0x30000 | PRESENT, DOMAIN << 8 | WIDTH_48, other)
    assert translate(model, m, device=other) == Outcome(reason=6)
    translate(model, m)
    assert translate(model, m, device=other) == Outcome(FRAME | 0x128)


def test_domains_have_numbers_of_16_bits(model: Model, m: Any) -> None:
    """VT-d 9.3, 6.2.1: translations of one are not those of another."""
    other = DEVICE + 1
    for bit in range(16):
        set_context(m, TABLES[4] | PRESENT, (DOMAIN ^ 1 << bit) << 8 | WIDTH_48)
        set_context(m, 0x30000 | PRESENT, DOMAIN << 8 | WIDTH_48, other)
        forget_all(model, m)
        assert translate(model, m) == Outcome(FRAME | 0x128)
        assert translate(model, m, device=other) == Outcome(reason=6)


def test_faults_are_not_cached(model: Model, m: Any) -> None:
    """VT-d 6.1, without caching mode."""
    m.PHYSICAL.write_64(place(PAGE, 1), 0)
    assert translate(model, m) == Outcome(reason=6)
    m.PHYSICAL.write_64(place(PAGE, 1), FRAME | R)
    assert translate(model, m) == Outcome(FRAME | 0x128)
