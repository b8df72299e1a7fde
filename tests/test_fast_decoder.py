"""The fast model's decoder reads codes as the reference's does, or leaves them to it (checks/fast/decoding.py)."""

from __future__ import annotations

import pytest

from checks.cli import main
from checks.fast.decoding import Decoders
from fastmodel import decoder
from refmodel.model import Model


def test_the_decoders_agree_on_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--decoder", "sample"]) == 0
    assert "0 decoded differently" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "code", "difference"),
    [
        ("ZERO", 0, "8b042511223344", "operand"),  # an address without a base is taken for one with RAX
        ("IMMEDIATE_SIGNED", 128, "83c0ff", "operand"),
        ("REFUSES_REX_RB", 0, "4190", "NOP"),
    ],
)
def test_a_wrong_decoder_is_noticed(
    model: Model, monkeypatch: pytest.MonkeyPatch, name: str, value: int, code: str, difference: str
) -> None:
    data = bytes.fromhex(code) + bytes(8)
    assert Decoders(model).difference(data) == ""
    monkeypatch.setattr(decoder, name, value)
    assert difference in Decoders(model).difference(data)
