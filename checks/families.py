"""The families of theorems, by name."""

from __future__ import annotations

from checks.fast.family import FastFamily
from checks.isolation.family import Isolation
from checks.theorem import Family
from checks.trap.family import TrapFamily


def families() -> dict[str, Family]:
    """All families."""
    return {family.name: family for family in (FastFamily(), Isolation(), TrapFamily())}
