"""One computation here and on another device: shapes and dtypes on any, values where the device has some."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

DEVICES = ["meta", pytest.param("cuda", marks=pytest.mark.gpu)]
"""Devices to compare the CPU with: `meta`, which knows shapes alone and is everywhere, and a real one."""


def assert_alike(found: Tensor, expected: Tensor, device: str, tolerance: float = 1e-4) -> None:
    """Check that a result from another device is the CPU's.

    Args:
        found: from the device.
        expected: from the CPU.
        device: its type.
        tolerance: largest difference of values, in units of the largest one expected: devices add up in
            other orders.
    """
    assert found.device.type == device
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if device != "meta":
        found, expected = found.detach().cpu(), expected.detach()
        scale = float(expected.double().abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-3))
