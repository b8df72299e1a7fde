"""Fixtures that many tests share."""

from __future__ import annotations

import pytest

import refmodel
from refmodel.model import Model


@pytest.fixture(scope="session")
def model() -> Model:
    """The model of the project's specification.  Tests make machines of it; nothing changes it."""
    return refmodel.load()
