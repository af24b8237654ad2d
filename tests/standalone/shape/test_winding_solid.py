"""Pieces of faces have the faces' area and side, and none is too long, even of slivers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.winding_solid import LARGEST_PIECE, halved, pieces_of


@given(seed=st.integers(0, 1000), width=st.sampled_from([1.0, 1e-2, 1e-5]))
def test_halved_triangles_cover_the_same_and_slivers_stay_few(seed: int, width: float) -> None:
    generator = np.random.default_rng(seed)
    triangles = generator.uniform(-1, 1, (5, 3, 3)) * [1, width, width]
    pieces = halved(triangles, 0.1)
    before, after = (np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).sum(axis=0) for t in (triangles, pieces))
    np.testing.assert_allclose(after, before, atol=1e-12)
    assert np.linalg.norm(np.roll(pieces, -1, axis=1) - pieces, axis=2).max() <= 0.1
    if width < 1e-2:
        assert len(pieces) < 5 * 200


def test_many_slivers_are_cut_less_finely() -> None:
    """Fans in machine parts have tens of thousands of slivers, each of them long."""
    triangles = np.random.default_rng(0).uniform(-1, 1, (400, 3, 3)) * [1, 1e-3, 1e-3]
    fine = halved(triangles, LARGEST_PIECE)
    np.testing.assert_array_equal(pieces_of(triangles, most=len(fine)), fine)
    few = pieces_of(triangles, most=2000)
    assert len(triangles) <= len(few) <= 2000 < len(fine)
    areas = [
        np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1).sum() for t in (triangles, few)
    ]
    assert areas[0] == pytest.approx(areas[1])
    assert len(pieces_of(triangles, most=10)) <= 800
