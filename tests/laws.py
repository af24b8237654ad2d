"""How often hypothesis tries a law."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

USUAL = 100
"""Random cases of a law that says nothing about their number."""
FEWEST = 5
"""Least random cases of any law."""


def cases(count: int, **options: Any) -> settings:
    """Settings of a law with a number of random cases, of which `make test-fast` tries a tenth.

    Args:
        count: random cases where the whole suite runs.
        options: other settings of hypothesis.
    """
    share = settings.default.max_examples / USUAL
    return settings(max_examples=max(min(count, FEWEST), round(share * count)), **options)
