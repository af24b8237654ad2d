"""What all tests of the viewer use."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _fresh_writers(fresh_writers: None) -> None:
    """Every test of the viewer leaves nerfstudio's log writers as it found them."""
