"""Coordinates in files: as precise as the format allows, near the origin and far from it."""

import io
from pathlib import Path

import numpy as np
import pytest
import trimesh

from bn_field_plugin.geometry import write_mesh
from bn_field_plugin.geometry.mesh_encoding import encode_mesh, precision_note, single_precision_error

FAR = np.array([500000.25, 4000000.5, 120.0])


def ball(center: np.ndarray | float = 0.0, scale: float = 1.0) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=2.0)
    return trimesh.Trimesh(mesh.vertices * scale + center, mesh.faces, process=False)


def read(data: bytes, kind: str) -> trimesh.Trimesh:
    return trimesh.load(io.BytesIO(data), file_type=kind, force="mesh", process=False)


@pytest.mark.parametrize("colored", [False, True])
@pytest.mark.parametrize(("kind", "error"), [("ply", 0.0), ("obj", 0.0), ("glb", 1e-6)])
def test_georeferenced_corners_come_back(kind: str, error: float, colored: bool) -> None:
    mesh = ball(FAR)
    if colored:
        colors = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 3), dtype=np.uint8)
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors)
    back = read(encode_mesh(mesh, kind), kind)
    np.testing.assert_allclose(back.vertices, mesh.vertices, rtol=0, atol=error)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    if colored:
        np.testing.assert_allclose(back.visual.vertex_colors[:, :3], colors, atol=1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_an_obj_keeps_every_digit_at_every_scale(scale: float) -> None:
    mesh = ball(scale=scale)
    np.testing.assert_array_equal(read(encode_mesh(mesh, "obj"), "obj").vertices, mesh.vertices)


def test_a_ply_is_small_where_32_bits_suffice() -> None:
    assert len(encode_mesh(ball(), "ply")) < len(encode_mesh(ball(FAR), "ply"))


def test_a_format_that_rounds_says_so() -> None:
    assert single_precision_error(ball()) < 1e-7
    assert all(precision_note(ball(), kind) is None for kind in ("ply", "obj", "stl", "glb"))
    assert all(precision_note(ball(FAR), kind) is None for kind in ("ply", "obj"))
    assert "use .ply or .obj" in str(precision_note(ball(FAR), "stl"))
    assert "32-bit" in str(precision_note(ball(FAR), "glb"))


def test_the_file_is_what_was_encoded(tmp_path: Path) -> None:
    write_mesh(ball(FAR), tmp_path / "far.ply")
    assert (tmp_path / "far.ply").read_bytes() == encode_mesh(ball(FAR), "ply")
