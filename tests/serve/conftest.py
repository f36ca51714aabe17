"""What tests of the server share."""

from __future__ import annotations

import pytest


@pytest.fixture
def lines() -> list[str]:
    return []
