"""Meshes of densities whose surface is known: a ball of smooth density, coloured by place or by view."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.fields.sdf_field import SDFField
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.export import marching_cubes
from bn_field_plugin.export.marching_cubes import density_field, density_mesh, to_world
from bn_field_plugin.fields.sdf_field import BNSDFField, BNSDFFieldConfig
from bn_field_plugin.geometry import Box, grid
from tests.geometry.boxes import BOXES, box
from tests.nn.cases import RUNNING
from tests.scenes import BOX, same_tensors, statistics, tiny_field, tiny_model

CENTER = torch.tensor([0.1, -0.2, 0.3])
RADIUS = 0.6
THRESHOLD = 10.0


class Ball(Field):
    """Density that falls from 20 at the centre to `THRESHOLD` at `RADIUS` and on to 0.

    Args:
        by_view: colour by the direction of view, not by place.
    """

    def __init__(self, by_view: bool = False) -> None:
        super().__init__()
        self.by_view = by_view

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        where = ray_samples.frustums.get_positions()
        distance = (where - CENTER).norm(dim=-1, keepdim=True)
        return (THRESHOLD * (2 - distance / RADIUS)).clamp_min(0), where

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        shown = ray_samples.frustums.directions if self.by_view else density_embedding
        return {FieldHeadNames.RGB: (shown + 1) / 2}


@pytest.mark.parametrize("where", BOXES.values(), ids=BOXES)
def test_the_mesh_of_a_ball_is_a_sphere(where: Box) -> None:
    mesh = density_mesh(Ball(), where, resolution=48, threshold=THRESHOLD)
    cell = float((where[1] - where[0]).max()) / 47
    radii = np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=1)
    # The density is linear in the radius, so the only errors are those of chords: cell^2 / radius.
    assert np.abs(radii - RADIUS).max() < cell**2 / RADIUS
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 2
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=3 * (cell / RADIUS) ** 2)
    outward = (mesh.vertices - CENTER.numpy()) / radii[:, None]
    assert (mesh.vertex_normals * outward).sum(axis=1).min() > 0.9
    faces = mesh.area_faces > 1e-9  # a sliver has no direction
    centers = mesh.triangles_center - CENTER.numpy()
    assert ((mesh.face_normals * centers).sum(axis=1)[faces] > 0).all()


def test_a_higher_threshold_gives_a_smaller_ball() -> None:
    """At density 15 the radius is half."""
    mesh = density_mesh(Ball(), box(), resolution=48, threshold=15.0)
    radii = np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=1)
    assert np.abs(radii - RADIUS / 2).max() < 0.01


def test_colours_are_those_of_the_place() -> None:
    mesh = density_mesh(Ball(), box(), resolution=24, threshold=THRESHOLD)
    expected = np.rint((mesh.vertices + 1) / 2 * 255)
    assert np.abs(mesh.visual.vertex_colors[:, :3].astype(float) - expected).max() <= 1
    assert (mesh.visual.vertex_colors[:, 3] == 255).all()


def test_colours_are_seen_from_outside() -> None:
    mesh = density_mesh(Ball(by_view=True), box(), resolution=24, threshold=THRESHOLD)
    inward = CENTER.numpy() - mesh.vertices
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    shown = mesh.visual.vertex_colors[:, :3] / 255 * 2 - 1
    assert (shown * inward).sum(axis=1).min() > 0.9


def test_the_surface_is_closed_where_it_leaves_the_box() -> None:
    """An eighth of the ball, cut by three faces of the box."""
    corner = box(tuple(CENTER.tolist()), (1.0, 1.0, 1.0))
    mesh = density_mesh(Ball(), corner, resolution=40, threshold=THRESHOLD)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(np.pi / 6 * RADIUS**3, rel=0.1)
    cell = 0.9 / 39
    assert (mesh.vertices >= CENTER.numpy() - cell).all()


def test_a_density_of_infinity_is_solid_and_one_that_is_no_number_empty() -> None:
    class Broken(Ball):
        def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
            density, where = super().get_density(ray_samples)
            density[density > 17] = torch.inf
            density[density < 2] = torch.nan
            return density, where

    mesh = density_mesh(Broken(), box(), resolution=32, threshold=THRESHOLD)
    assert mesh.is_watertight
    assert np.abs(np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=1) - RADIUS).max() < 0.02


def test_points_go_through_the_field_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = density_mesh(Ball(), box(), resolution=24, threshold=THRESHOLD)
    for module in (grid, marching_cubes):
        monkeypatch.setattr(module, "POINTS_PER_CALL", 100)
    sizes: list[int] = []

    class Counting(Ball):
        def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
            sizes.append(len(ray_samples))
            return super().get_density(ray_samples)

    parts = density_mesh(Counting(), box(), resolution=24, threshold=THRESHOLD)
    assert max(sizes) == 100
    np.testing.assert_array_equal(parts.vertices, whole.vertices)
    np.testing.assert_array_equal(parts.visual.vertex_colors, whole.visual.vertex_colors)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_mesh_is_read_with_running_statistics_that_stay(norm: str) -> None:
    """This holds in training mode too, where the statistics of a part of the grid would bend the surface."""
    meshes = []
    for training in (True, False):
        field = tiny_field(norm).train(training)
        before = statistics(field)
        meshes.append(density_mesh(field, tuple(BOX), 16, threshold=0.3))
        assert same_tensors(statistics(field), before)
        assert field.training == training
    np.testing.assert_array_equal(meshes[0].vertices, meshes[1].vertices)
    np.testing.assert_array_equal(meshes[0].visual.vertex_colors, meshes[1].visual.vertex_colors)


# ----------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("threshold", [30.0, -1.0])
def test_a_threshold_that_no_density_crosses_is_the_users_mistake(threshold: float) -> None:
    with pytest.raises(UserError, match=r"--threshold is .* densities in the box go from 0 to "):
        density_mesh(Ball(), box(), resolution=16, threshold=threshold)


def test_a_model_without_density_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="Linear has no density field"):
        density_field(torch.nn.Linear(1, 1))


def test_the_field_that_renders_is_the_one_exported() -> None:
    model = tiny_model()
    assert density_field(model) is model.field_fine


def ball_of_distances() -> BNSDFField:
    """A model whose distance is that of a sphere of radius 0.75, as training begins."""
    return BNSDFField(BNSDFFieldConfig(width=8, depth=1, geo_feat_dim=2, head_width=8), BOX).eval()


@pytest.mark.parametrize("threshold", [None, 10.0])
def test_a_signed_distance_has_its_surface_where_it_is_zero(threshold: float | None) -> None:
    mesh = density_mesh(ball_of_distances(), tuple(BOX), resolution=32, threshold=threshold)
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radii - 0.75).max() < 0.02
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.75**3, rel=0.05)
    assert mesh.visual.vertex_colors[:, 3].min() == 255


def test_a_box_without_surface_is_the_users_mistake() -> None:
    corner = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.5, 1.5, 1.5])
    with pytest.raises(UserError, match=r"no surface in the box: signed distances go from 0\.98"):
        density_mesh(ball_of_distances(), corner, resolution=8)


def test_the_field_of_signed_distances_serves_if_it_has_a_density() -> None:
    field = ball_of_distances()
    assert density_field(SimpleNamespace(field=field)) is field
    with pytest.raises(UserError, match="has no density field"):
        density_field(SimpleNamespace(field=SDFField.__new__(SDFField)))


def test_the_worlds_coordinates_keep_their_digits() -> None:
    """A survey has millimetres in coordinates of millions of metres, which 32 bits do not hold."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0].numpy()
    world = np.array([500_000.25, 4_000_000.5, 120.0]) + np.random.default_rng(0).random((50, 3))
    transform = np.concatenate([turn, -turn @ world.mean(axis=0)[:, None]], axis=1)
    trained = 0.02 * (world @ transform[:, :3].T + transform[:, 3])
    np.testing.assert_allclose(to_world(trained, transform, 0.02), world, rtol=0, atol=1e-6)


def test_the_worlds_coordinates_are_those_of_nerfstudio() -> None:
    outputs = DataparserOutputs([], None, dataparser_scale=0.3)  # type: ignore[arg-type]
    outputs.dataparser_transform = torch.tensor([[0.0, -1, 0, 2], [1, 0, 0, -1], [0, 0, 1, 0.5]])
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    poses = torch.eye(4)[:3].repeat(20, 1, 1)
    poses[:, :, 3] = points
    want = outputs.transform_poses_to_original_space(poses)[:, :3, 3]
    found = to_world(points.numpy(), outputs.dataparser_transform.numpy(), outputs.dataparser_scale)
    np.testing.assert_allclose(found, want, atol=1e-5)
