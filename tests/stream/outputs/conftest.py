"""What tests of recordings share."""

from __future__ import annotations

import pytest
from waiting import LAST_RESORT_S

from edgedet.stream.outputs import recording


@pytest.fixture
def patient(monkeypatch):
    """On a busy machine an encoder may take seconds; what it leaves out then has tests of its own."""
    monkeypatch.setattr(recording, "_LONGEST_LAG_S", LAST_RESORT_S)
