"""The similarity between a shape's own coordinates and the box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.frames import Frame


@given(scale=st.floats(1e-9, 1e9), x=st.floats(-1e3, 1e3), y=st.floats(-1e3, 1e3), z=st.floats(-1e3, 1e3))
def test_the_frame_goes_there_and_back(scale: float, x: float, y: float, z: float) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3)) * scale + np.array([x, y, z]) * scale
    frame = Frame.around(points)
    inside = frame.to_box(points)
    assert np.ptp(inside, axis=0).max() == pytest.approx(1.8, rel=1e-6)
    assert np.abs(inside).max() <= 0.9 + 1e-6
    np.testing.assert_allclose(frame.from_box(inside), points, rtol=1e-9, atol=1e-9 * scale)


def test_frames_are_near_but_for_the_rounding_of_32_bits() -> None:
    frame = Frame((500000.25, 4000000.5, 120.0), 2.0)
    assert frame.is_near(dataclasses.replace(frame, scale=2.0 + 1e-6))
    assert not frame.is_near(dataclasses.replace(frame, scale=2.1))
    assert not frame.is_near(dataclasses.replace(frame, center=(500100.0, 4000000.5, 120.0)))
