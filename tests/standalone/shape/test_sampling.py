"""Samples of solids: places, values, and the same draws after a fit was stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from bn_field_plugin import UserError
from standalone.shape.sampling import SamplingConfig, SolidSampler, voxel_batch
from standalone.shape.solids import MeshSolid, VolumeSolid

BALL = MeshSolid(trimesh.creation.icosphere(subdivisions=3, radius=0.6))


def test_occupancies_are_those_of_the_solid() -> None:
    points, occupancy = SolidSampler(BALL, SamplingConfig(points=4096), seed=0).next_batch()
    assert points.shape == (4096, 3)
    assert occupancy.shape == (4096, 1)
    np.testing.assert_array_equal(occupancy[:, 0].numpy() > 0.5, BALL.inside(points.numpy().astype(float)))


def test_the_shares_are_near_and_uniform() -> None:
    config = SamplingConfig(points=20_000, near_surface=0.75, sigma=0.005)
    points = SolidSampler(BALL, config, seed=0).next_batch()[0].numpy()
    distance = np.linalg.norm(points, axis=1) - 0.6
    near, uniform = np.split(distance, [15_000])
    assert near.std() == pytest.approx(0.01, rel=0.1)
    assert np.mean(uniform < 0) == pytest.approx(BALL.surface.volume / 8, abs=0.02)


def test_a_resumed_sampler_draws_the_same() -> None:
    sampler = SolidSampler(BALL, SamplingConfig(points=100), seed=4)
    sampler.next_batch()
    state = sampler.state_dict()
    expected = sampler.next_batch()
    other = SolidSampler(BALL, SamplingConfig(points=100), seed=99)
    other.load_state_dict(state)
    for a, b in zip(other.next_batch(), expected, strict=True):
        assert torch.equal(a, b)


def test_voxels_are_those_of_the_volume() -> None:
    occupancy = np.random.default_rng(0).random((5, 7, 3)) > 0.5
    solid = VolumeSolid(occupancy)
    points, full = voxel_batch(solid, torch.arange(occupancy.size))
    np.testing.assert_array_equal(full[:, 0].numpy() > 0.5, occupancy.reshape(-1))
    np.testing.assert_array_equal(solid.inside(points.numpy().astype(float)), occupancy.reshape(-1))


@pytest.mark.parametrize("wrong", [{"points": 1}, {"near_surface": 1.5}, {"sigma": 0.0}])
def test_a_number_out_of_range_names_its_option(wrong: dict) -> None:
    with pytest.raises(UserError, match="--" + next(iter(wrong)).replace("_", "-")):
        SamplingConfig(**wrong).check()
