"""Meshes of densities whose surface is known: a ball of smooth density, coloured by place or by view."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from bn_field_plugin.export import marching_cubes
from bn_field_plugin.export.marching_cubes import Box, density_field, density_grid, density_mesh, write_mesh
from bn_field_plugin.nn import UserError
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


def box(low: tuple[float, ...] = (-1, -1, -1), high: tuple[float, ...] = (1, 1, 1)) -> Box:
    return torch.tensor(low), torch.tensor(high)


BOXES = {
    "cube": box(),
    "slab": box((-1, -0.9, -0.5), (2.0, 0.5, 1.0)),
    "tight": box((-0.55, -0.85, -0.35), (0.75, 0.45, 0.95)),
    "odd": box((-0.61, -1.0, -0.33), (0.93, 1.7, 1.1)),
}


@pytest.mark.parametrize("where", BOXES.values(), ids=BOXES)
def test_the_mesh_of_a_ball_is_a_sphere(where: Box) -> None:
    mesh = density_mesh(Ball(), where, resolution=48, threshold=THRESHOLD)
    cell = float((where[1] - where[0]).max()) / 47
    radii = np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=1)
    # The density is linear in the radius: only the chords of the cells are off, by cell^2 / radius.
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


@pytest.mark.parametrize("where", BOXES.values(), ids=BOXES)
def test_the_grid_spans_the_box_with_nearly_cubic_cells(where: Box) -> None:
    """Oracle: every point of the grid one by one, for a density that is a different number everywhere."""

    def density(points: Tensor) -> Tensor:
        return points @ torch.tensor([[1.0], [10.0], [100.0]])

    grid = density_grid(density, where, resolution=9)
    low, high = (corner.numpy() for corner in where)
    assert max(grid.shape) == 9
    cells = (high - low) / (np.array(grid.shape) - 1)
    assert cells.max() / cells.min() < 1.35
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, grid.shape, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    np.testing.assert_allclose(grid, points @ np.array([1, 10, 100]), rtol=1e-4, atol=1e-3)


def test_points_go_through_the_field_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = density_mesh(Ball(), box(), resolution=24, threshold=THRESHOLD)
    monkeypatch.setattr(marching_cubes, "POINTS_PER_CALL", 100)
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
    """Also of a field in training mode: a slab's own statistics would bend the surface."""
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


# -------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
def test_what_is_written_is_read_back(ending: str, tmp_path: Path) -> None:
    mesh = density_mesh(Ball(), box(), resolution=12, threshold=THRESHOLD)
    path = tmp_path / "new" / "folder" / f"ball.{ending.upper() if ending == 'ply' else ending}"
    write_mesh(mesh, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    back = trimesh.load(path, force="mesh", file_type=ending)
    assert len(back.faces) == len(mesh.faces)
    assert back.volume == pytest.approx(mesh.volume, rel=1e-4)
    if ending != "stl":
        assert len(np.unique(back.visual.vertex_colors, axis=0)) > 10


def test_an_unknown_format_is_the_users_mistake(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere()
    with pytest.raises(UserError, match=r"unknown mesh format '.blend'; use .ply"):
        write_mesh(mesh, tmp_path / "ball.blend")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*choose another --output-dir"):
        write_mesh(trimesh.creation.icosphere(), tmp_path / "file" / "ball.ply")


def test_a_write_that_fails_leaves_the_older_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ball.ply"
    write_mesh(trimesh.creation.icosphere(), path)
    older = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(marching_cubes.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_mesh(trimesh.creation.icosphere(subdivisions=1), path)
    assert path.read_bytes() == older
    assert [p.name for p in tmp_path.iterdir()] == ["ball.ply"]
