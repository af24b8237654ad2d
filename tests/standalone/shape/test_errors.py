"""Errors of surfaces, against a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from standalone.shape.errors import WORST, error_colors, surface_error


def test_the_error_of_a_smaller_ball_is_the_difference_of_the_radii() -> None:
    true = trimesh.creation.icosphere(subdivisions=5, radius=0.8)
    error = surface_error(trimesh.creation.icosphere(subdivisions=3, radius=0.7), true)
    assert error == pytest.approx(0.05, rel=0.01)


def test_colours_saturate_at_the_worst() -> None:
    colors = error_colors(np.array([0, WORST / 2, WORST, 1.0]))
    assert colors.shape == (4, 3)
    np.testing.assert_array_equal(colors[2], colors[3])
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert len(np.unique(colors, axis=0)) == 3
