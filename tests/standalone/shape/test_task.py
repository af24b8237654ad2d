"""Fits of shapes learn, resume to the same network, and are measured in the form that is saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from bn_field_plugin import UserError
from standalone.fitting import CheckpointOptions
from standalone.options import NetworkOptions, RunOptions
from standalone.shape.contender import contend
from standalone.shape.fitted import FittedShape
from standalone.shape.frames import Frame
from standalone.shape.inputs import ShapeInput, load_shape, voxelized
from standalone.shape.sampling import SamplingConfig
from standalone.shape.solids import MeshSolid, VolumeSolid
from standalone.shape.task import FitOptions, MeasureOptions, ShapeNetworkOptions, TargetOptions, fit_shape

BALL = ShapeInput(
    "ball",
    MeshSolid(trimesh.creation.icosphere(subdivisions=3, radius=0.6)),
    Frame((1.0, 2.0, 3.0), 10.0),
)
SMALL = FitOptions(
    NetworkOptions("pemlp-1", "batch", width=16, depth=2),
    sampling=SamplingConfig(points=1024),
    run=RunOptions(steps=300, eval_every=100, device="cpu"),
)
QUICK = MeasureOptions(resolution=32, iou_points=2**14, surface_points=2000)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_a_ball_is_learned(norm: str, loss: str, tmp_path: Path) -> None:
    network = dataclasses.replace(SMALL.network, norm=norm)
    options = dataclasses.replace(SMALL, network=network, target=TargetOptions(loss))
    result = contend(BALL, options, QUICK)
    assert result.metrics["iou_uniform"] > 0.85
    assert [row["step"] for row in result.history] == [100, 200, 300]
    assert result.history[-1]["iou"] > result.history[0]["iou"]
    assert 0 < result.metrics["sampling_share"] < 1
    result.shape.save(tmp_path / "shape.pt")
    again = FittedShape.load(tmp_path)
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    np.testing.assert_array_equal(again.inside(points), result.shape.inside(points))
    assert again.variant.norm == ("none" if norm == "batch" else norm)
    mesh = again.mesh(32)
    center = mesh.bounds.mean(axis=0)
    np.testing.assert_allclose(center, [1, 2, 3], atol=1.0)
    assert mesh.volume == pytest.approx(BALL.solid.surface.volume * 1000, rel=0.2)


@pytest.mark.parametrize(
    ("network", "steps"),
    [
        (ShapeNetworkOptions("hash-8", width=16), 60),
        (ShapeNetworkOptions("hash-8", "layer", width=16, norm_eps=1e-2), 60),
        # SIREN's learning rate is a third of that of the others.
        pytest.param(
            ShapeNetworkOptions("wire", "none", width=16, depth=2, omega=5.0, wire_scale=3.0),
            300,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["hash", "hash-layer", "wire"],
)
def test_networks_with_more_to_them_are_fitted_and_read_back(
    network: ShapeNetworkOptions, steps: int, tmp_path: Path
) -> None:
    options = dataclasses.replace(
        SMALL,
        network=network,
        run=RunOptions(steps=steps, eval_every=steps, device="cpu"),
    )
    result = contend(BALL, options, QUICK)
    assert result.metrics["iou_uniform"] > 0.85
    result.shape.save(tmp_path / "shape.pt")
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    again = FittedShape.load(tmp_path)
    np.testing.assert_array_equal(again.inside(points), result.shape.inside(points))


def test_voxels_are_fitted_each_once_in_an_epoch() -> None:
    volume = voxelized(BALL, 16)
    assert isinstance(volume.solid, VolumeSolid)
    assert volume.solid.occupancy.shape == (16, 16, 16)
    options = dataclasses.replace(
        SMALL, target=TargetOptions("mse", voxels=16), sampling=SamplingConfig(points=512)
    )
    assert contend(volume, options, QUICK).metrics["iou_uniform"] > 0.8


def test_voxelizing_keeps_the_shape_where_it_is() -> None:
    volume = voxelized(BALL, 48)
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
    own = BALL.frame.from_box(points)
    inside = volume.solid.inside(volume.frame.to_box(own))
    assert np.mean(inside != BALL.solid.inside(points)) < 0.02
    assert voxelized(volume, 8) is volume


def test_a_resumed_fit_ends_in_the_same_network(tmp_path: Path) -> None:
    def run(steps: int, name: str, resume: bool = False) -> FittedShape:
        checkpoint = CheckpointOptions(tmp_path / name, resume=resume, identity=SMALL.identity())
        run_options = dataclasses.replace(SMALL.run, steps=steps)
        return fit_shape(BALL, dataclasses.replace(SMALL, run=run_options), checkpoint=checkpoint)[0]

    whole = run(60, "whole.pt")
    again = run(60, "whole.pt", resume=True)
    for a, b in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_fit_is_reproducible() -> None:
    short = dataclasses.replace(SMALL, run=dataclasses.replace(SMALL.run, steps=20))
    one, two = (fit_shape(BALL, short)[0].network for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_wrong_options_are_found_before_the_fit() -> None:
    for wrong in (
        dataclasses.replace(SMALL, target=TargetOptions(voxels=1)),
        dataclasses.replace(SMALL, network=dataclasses.replace(SMALL.network, width=0)),
        dataclasses.replace(SMALL, run=dataclasses.replace(SMALL.run, steps=0)),
        dataclasses.replace(SMALL, sampling=SamplingConfig(points=1)),
    ):
        with pytest.raises(UserError):
            wrong.check()


def test_no_file_is_the_built_in_shape() -> None:
    shape = load_shape(None)
    assert shape.name == "knurled-torus"
    assert shape.solid.surface.is_watertight


def test_what_is_no_fitted_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        FittedShape.load(tmp_path)
    (tmp_path / "shape.pt").write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read"):
        FittedShape.load(tmp_path)
