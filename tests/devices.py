"""Comparison of one computation on the CPU and on another device, which may know shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

DEVICES = ["meta", pytest.param("cuda", marks=pytest.mark.gpu)]
"""Devices to compare with the CPU: `meta`, which computes shapes alone, and CUDA."""


def assert_alike(found: Tensor, expected: Tensor, device: str, tolerance: float = 1e-4) -> None:
    """Check that a result from another device is the CPU's.

    Args:
        found: from the device.
        expected: from the CPU.
        device: its type.
        tolerance: largest difference of values, relative to the largest one. Devices add up in other orders.
    """
    assert found.device.type == device
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if device != "meta":
        found, expected = found.detach().cpu(), expected.detach()
        scale = float(expected.double().abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-3))
