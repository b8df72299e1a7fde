"""What the compiled reference is made for: what of the specification runs, and what calls it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Purpose:
    """`root` is a function of the specification, called by the functions in `text`, a file beside `runtime.ll`.

    With `outputs`, the VMM runs too: what it tells the outside world is kept, and every write can be taken back.
    """

    name: str
    root: str
    text: str
    list_length: int
    outputs: bool


CASES = Purpose("reference", "cycle", "cases.ll", list_length=64, outputs=False)
"""Short cases, of what one processor does."""

GUESTS = Purpose("guests", "run_one", "guests.ll", list_length=256, outputs=True)
"""Guests under the VMM."""
