"""Autocast, off where numbers need their own precision, on any device.

Not every device has autocast: `meta`, on which shapes are tried out, has none, and torch raises where it is
asked about it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations on `device` keep the dtype of their arguments."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def is_autocast(device: torch.device) -> bool:
    """Whether autocast is at work for operations on `device`."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
