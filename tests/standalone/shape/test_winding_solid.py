"""Pieces of faces: the same area and side, none too long, also of slivers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.winding_solid import halved


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
