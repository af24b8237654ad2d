"""Meshes: welded, turned outwards, diagnosed and repaired, whatever their scale and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from bn_field_plugin import UserError
from standalone.shape.formats.content import MeshContent
from standalone.shape.formats.polygons import triangulate
from standalone.shape.mesh_inside import solid_of_mesh
from standalone.shape.meshes import PreparedMesh, load_mesh, prepare
from tests.standalone.shape.broken_meshes import (
    ball,
    box,
    content,
    holed,
    in_box,
    soup,
    together,
    turned,
    write,
)


def prepared(mesh: trimesh.Trimesh, repair: bool = False) -> PreparedMesh:
    return prepare(content(mesh), "it", repair)


def notes_of(mesh: trimesh.Trimesh, repair: bool = False) -> str:
    return "; ".join(prepared(mesh, repair).notes)


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_every_format_is_closed_and_has_no_notes(ending: str, tmp_path: Path) -> None:
    found = load_mesh(write(ball(2), tmp_path / f"ball.{ending}"))
    assert found.closed
    assert found.mesh.is_watertight
    assert found.notes == ()
    assert found.mesh.volume == pytest.approx(ball(2).volume, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("far", [0.0, 1e6])
def test_neither_scale_nor_place_matters(scale: float, far: float) -> None:
    """A ball of radius 1 at 1e6 is the same ball: welding is relative, and no digit is lost."""
    mesh = ball(2)
    placed = trimesh.Trimesh((mesh.vertices + far) * scale, mesh.faces, process=False)
    found = prepared(placed)
    assert found.closed
    np.testing.assert_array_equal(np.unique(found.mesh.vertices), np.unique(placed.vertices))
    local = trimesh.Trimesh(found.mesh.vertices / scale - far, found.mesh.faces, process=False)
    assert local.volume == pytest.approx(mesh.volume, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-12, 1e-9, 1e-7, 1e-6])
def test_corners_that_differ_in_some_digit_are_welded(noise: float) -> None:
    found = prepared(soup(ball(), noise))
    assert found.closed
    assert found.mesh.volume == pytest.approx(ball().volume, rel=1e-4)
    assert len(found.notes) == (1 if noise >= 1e-12 else len(found.notes))
    if noise >= 1e-12:
        assert "welded: that closes 3,840 edges" in found.notes[0]


def test_detail_below_the_weld_survives() -> None:
    """A closed mesh has a bump that is smaller than the distance at which others are welded."""
    small = ball(1, 2e-7, (0, 0, 1.5))
    found = prepared(together(soup(ball(), 1e-9), small))
    assert found.closed
    assert len(found.mesh.vertices) == len(ball().vertices) + len(small.vertices)


def test_corners_farther_apart_need_repair() -> None:
    torn = soup(ball(), 3e-5)
    assert not prepared(torn).closed
    assert prepared(torn, repair=True).closed


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
def test_faces_against_the_others_are_turned(share: float) -> None:
    found = prepared(turned(ball(), share))
    count = round(min(share, 1 - share) * 1280)
    assert found.closed
    assert found.mesh.volume == pytest.approx(ball().volume)
    assert any(
        f"{count:,} of its 1,280 faces pointed against the others: turned" in note for note in found.notes
    )


@pytest.mark.parametrize("mesh", [ball(), holed(ball(), 0.9)], ids=["closed", "open"])
def test_a_mesh_inside_out_is_turned(mesh: trimesh.Trimesh) -> None:
    found = prepared(turned(mesh))
    assert "pointed inwards: turned outwards" in found.notes[0]
    np.testing.assert_allclose(found.mesh.volume, mesh.volume)


@pytest.mark.parametrize("part", [ball(), holed(ball(), 0.9)], ids=["closed", "open"])
def test_a_mirrored_part_is_turned_and_a_cavity_is_not(part: trimesh.Trimesh) -> None:
    big = ball(3, 4.0)
    beside = trimesh.Trimesh(part.vertices + 6, part.faces, process=False)
    assert "1 of 2 parts were inside out" in notes_of(together(big, turned(beside)))
    assert notes_of(together(big, beside)) == ""
    cavity = prepared(together(big, turned(part)))
    assert cavity.notes == ()
    assert cavity.mesh.volume == pytest.approx(big.volume - part.volume, rel=1e-6)
    # All faces are turned: the repair turns the whole mesh once, and finds nothing more.
    both = prepared(turned(together(big, turned(part))))
    assert both.mesh.volume == pytest.approx(big.volume - part.volume, rel=1e-6)


def test_faces_that_are_there_twice_count_once() -> None:
    whole = ball()
    for faces in (whole.faces, whole.faces[:7]):
        doubled = trimesh.Trimesh(whole.vertices, np.concatenate([whole.faces, faces]), process=False)
        found = prepared(doubled)
        assert found.closed
        assert found.mesh.volume == pytest.approx(whole.volume)
        assert f"{len(faces):,} faces of those there twice left out" in found.notes[0]


def test_a_front_and_a_back_for_each_face_are_one_surface() -> None:
    whole = ball()
    both = trimesh.Trimesh(whole.vertices, np.concatenate([whole.faces, whole.faces[:, ::-1]]), process=False)
    found = prepared(both)
    assert found.closed
    assert found.mesh.volume == pytest.approx(whole.volume)


def test_the_wall_between_touching_boxes_goes() -> None:
    one = box()
    other = trimesh.Trimesh(
        np.multiply(one.vertices, [-1, 1, 1]) + np.array([2, 0, 0]), one.faces[:, ::-1], process=False
    )
    found = prepared(together(one, other))
    assert found.closed
    assert found.mesh.volume == pytest.approx(2)
    assert len(found.mesh.faces) == 20
    assert "2 pairs of faces back to back" in found.notes[0]


def test_an_inner_wall_is_an_edge_of_three_faces_and_is_mended() -> None:
    cut = trimesh.Trimesh(
        box().vertices, np.concatenate([box().faces, [[0, 3, 7], [0, 7, 4]]]), process=False
    )
    found = prepared(cut)
    assert not found.closed
    assert found.forks > 0
    mended = prepared(cut, repair=True)
    assert mended.closed
    assert mended.mesh.volume == pytest.approx(1)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_repair_closes_every_hole(noise: float) -> None:
    """The mesh has three holes, one of them with many corners, and is torn besides."""
    mesh = holed(ball(4), 0.8)
    kept = np.ones(len(mesh.faces), bool)
    kept[[5, 900, 901]] = False
    torn = soup(trimesh.Trimesh(mesh.vertices, mesh.faces[kept], process=False), noise)
    assert not prepared(torn).closed
    found = prepared(torn, repair=True)
    assert found.closed
    height = 0.2
    assert found.mesh.volume == pytest.approx(ball(4).volume - np.pi * height**2 * (1 - height / 3), rel=0.02)
    assert any("--repair closed" in note for note in found.notes)


def test_repair_says_nothing_of_loose_triangles_that_it_cannot_close() -> None:
    found = prepared(soup(ball(2), 1e-2), repair=True)
    assert found.open_edges == 3 * len(ball(2).faces)
    assert not any("--repair" in note for note in found.notes)


@pytest.mark.parametrize("start", [0, 1])
def test_a_back_behind_each_quad_is_known_whatever_its_first_corner(start: int) -> None:
    """Some programs export both sides of all faces."""
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    quads = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    both = np.concatenate([quads, np.roll(quads[:, ::-1], start, axis=1)])
    faces = triangulate(corners, np.full(len(both), 4), both.reshape(-1))
    found = prepare(MeshContent(corners, faces), "it")
    assert found.closed
    assert found.mesh.volume == pytest.approx(1)


def test_coordinates_that_the_file_has_rounded_are_told() -> None:
    """An STL at 1e6 has lost digits, which no repair brings back; the user is told."""
    rounded = (ball().vertices + 1e6).astype(np.float32).astype(np.float64)
    assert "steps of 3.1e-02 of its side" in notes_of(trimesh.Trimesh(rounded, ball().faces, process=False))


def test_several_parts_are_one_shape() -> None:
    assert prepared(together(ball(), ball(center=3.0))).mesh.volume == pytest.approx(2 * ball().volume)


def broken(name: str) -> MeshContent:
    whole = content(ball(2))
    vertices = np.array(whole.vertices)
    if name == "nan":
        vertices[3, 1] = np.nan
    if name == "point":
        vertices[:] = 1.0
    if name == "line":
        vertices[:, :2] = 0
    if name == "flat":
        vertices[:, 2] = 0
    if name == "no triangle":
        return MeshContent(vertices, np.array([[0, 0, 1]]))
    return MeshContent(vertices, whole.faces)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "1 vertices that are not finite"),
        ("point", "at one point"),
        ("line", "has no area"),
        ("flat", "encloses nothing"),
        ("no triangle", "has no area"),
    ],
)
def test_a_mesh_that_encloses_nothing_is_one_clear_line(name: str, message: str) -> None:
    def read() -> None:
        found = prepare(broken(name), "it")
        solid_of_mesh(found, in_box(found.mesh), "it")

    with pytest.raises(UserError, match=message):
        read()


def test_corners_of_no_face_do_not_matter() -> None:
    whole = content(ball(2))
    stray = MeshContent(np.concatenate([whole.vertices, [[np.nan, 0, 0], [1e9, 0, 0]]]), whole.faces)
    assert prepare(stray, "it").mesh.bounds.max() == pytest.approx(1)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_mesh(tmp_path / "none.ply")
