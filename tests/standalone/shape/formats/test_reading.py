"""Readers give what was written, in each flavour of a format; broken files give one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.shape.formats.content import MeshContent
from standalone.shape.formats.obj import read_obj
from standalone.shape.formats.off import read_off
from standalone.shape.formats.ply import read_ply
from standalone.shape.formats.reading import read_mesh_file

FAR = np.array([500000.25, 4000000.5, 120.0])
CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
MIXED = [*QUADS[:5], (1, 5, 7), (1, 7, 3)]


def volume(content: MeshContent) -> float:
    local = content.vertices - content.vertices[0]
    return trimesh.Trimesh(local, content.faces, process=False).volume


def obj_text(vertices: np.ndarray, faces: list[tuple[int, ...]]) -> str:
    lines = ["v {} {} {}".format(*map(repr, row)) for row in vertices.tolist()]
    return "\n".join([*lines, *("f " + " ".join(str(i + 1) for i in face) for face in faces)]) + "\n"


def off_text(vertices: np.ndarray, faces: list[tuple[int, ...]]) -> str:
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0", *(" ".join(map(repr, v)) for v in vertices.tolist())]
    return "\n".join([*lines, *(f"{len(face)} " + " ".join(map(str, face)) for face in faces)]) + "\n"


def ply_bytes(vertices: np.ndarray, faces: list[tuple[int, ...]], kind: str, number: str = "double") -> bytes:
    header = f"ply\nformat {kind} 1.0\ncomment made here\nelement vertex {len(vertices)}\n"
    header += "".join(f"property {number} {axis}\n" for axis in "xyz")
    header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nproperty uchar flags\n"
    header += "end_header\n"
    if kind == "ascii":
        rows = [" ".join(map(repr, row)) for row in vertices.tolist()]
        rows += [f"{len(face)} {' '.join(map(str, face))} 7" for face in faces]
        return (header + "\n".join(rows) + "\n").encode()
    order = "<" if "little" in kind else ">"
    body = vertices.astype(order + ("f8" if number == "double" else "f4")).tobytes()
    for face in faces:
        body += struct.pack(f"{order}B{len(face)}iB", len(face), *face, 7)
    return header.encode() + body


PLY_KINDS = ("ascii", "binary_little_endian", "binary_big_endian")


@pytest.mark.parametrize("faces", [QUADS, MIXED], ids=["quads", "mixed"])
@pytest.mark.parametrize("kind", ["obj", "off", *PLY_KINDS])
def test_polygons_are_read_in_64_bits(kind: str, faces: list[tuple[int, ...]], tmp_path: Path) -> None:
    corners = CORNERS * 0.125 + FAR
    path = tmp_path / f"cube.{kind if kind in ('obj', 'off') else 'PLY'}"
    if kind in ("obj", "off"):
        path.write_text(obj_text(corners, faces) if kind == "obj" else off_text(corners, faces))
    else:
        path.write_bytes(ply_bytes(corners, faces, kind))
    content = read_mesh_file(path)
    np.testing.assert_array_equal(content.vertices, corners)
    assert len(content.faces) == 12
    assert volume(content) == pytest.approx(0.125**3, rel=1e-12)


def test_obj_of_every_habit() -> None:
    text = (
        "\ufeff# Blender\r\nmtllib a.mtl\r\no Cube\r\n"
        + "".join("v {} {} {} 1.0 0.5 0.5 # red\r\n".format(*row) for row in CORNERS.tolist())
        + "vt 0 0\r\nvn 0 0 1\r\ns off\r\nusemtl x\r\n"
        + "f 1/1/1 2/1/1 4/1/1 \\\r\n 3/1/1\r\n"  # one face in two lines
        + "f -4//1 -2//1 -1//1 -3//1\r\n"  # indices from the end
        + "".join("f " + " ".join(f"{i + 1}/1" for i in face) + " # side\r\n" for face in QUADS[2:])
        + "l 1 2\r\np 3\r\n"
    )
    content = read_obj(text.encode())
    assert volume(content) == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    [
        off_text(CORNERS, QUADS),
        off_text(CORNERS, QUADS).replace("OFF\n", "OFF "),
        off_text(CORNERS, QUADS).replace("OFF\n", "OFF"),
        off_text(CORNERS, QUADS).replace("OFF\n", "# a cube\n\nCOFF # colours\n").replace("\n4 ", "\n\n4 "),
    ],
)
def test_off_of_every_habit(text: str) -> None:
    assert volume(read_off(text.encode())) == pytest.approx(1)


def test_triangle_strips_of_a_ply() -> None:
    """A tetrahedron is one strip of four triangles, after a strip that is too short for a triangle."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    header = "ply\nformat binary_big_endian 1.0\nelement vertex 4\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    strip = [0, 1, -1, 0, 2, 1, 3, 0, 2]
    content = read_ply(
        header.encode() + corners.astype(">f4").tobytes() + struct.pack(">10i", len(strip), *strip)
    )
    assert len(content.faces) == 4
    assert abs(volume(content)) == pytest.approx(1 / 6)


def test_a_cloud_has_its_normals() -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 2\n"
    header += (
        "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz")) + "end_header\n"
    )
    content = read_ply((header + "0 0 0 0 0 1\n1 2 3 nan 0 0\n").encode())
    assert len(content.faces) == 0
    np.testing.assert_array_equal(content.normals, [[0, 0, 1], [np.nan, 0, 0]])


@pytest.mark.parametrize("kind", ["stl", "glb"])
def test_trimesh_formats_are_read_whole(kind: str, tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.export(tmp_path / f"ball.{kind}")
    content = read_mesh_file(tmp_path / f"ball.{kind}")
    assert len(content.faces) == len(mesh.faces)
    assert volume(content) == pytest.approx(mesh.volume, rel=1e-5)


def test_a_mirrored_and_moved_node_is_as_the_viewer_shows_it(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    scene = trimesh.Scene()
    scene.add_geometry(ball, node_name="a", geom_name="ball")
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[:3, 3] = FAR
    scene.graph.update("b", matrix=mirror, geometry="ball")
    scene.export(tmp_path / "two.glb")
    content = read_mesh_file(tmp_path / "two.glb")
    half = len(content.faces) // 2
    for faces in (content.faces[:half], content.faces[half:]):
        used, local = np.unique(faces, return_inverse=True)
        part = MeshContent(content.vertices[used], local.reshape(-1, 3))
        assert volume(part) == pytest.approx(ball.volume, rel=1e-6)
    np.testing.assert_allclose(content.vertices.max(axis=0), FAR + 1, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "Draco compression"),
        ({"extensionsUsed": ["EXT_mesh_gpu_instancing"]}, "copies of meshes"),
        ({"asset": {"version": "1.0"}}, "version 1.0: export it as glTF 2.0"),
        ({"asset": {}, "meshes": {"cube": {}}}, "version ?"),
        ({"scenes": [], "meshes": [{"primitives": [{"mode": 4}]}]}, "has no scene"),
        ({"meshes": [{"primitives": [{"mode": 4}, {"mode": 6}]}]}, "triangle fans"),
        (
            {
                "accessors": [{"count": 3, "sparse": {}}],
                "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            },
            "sparse coordinates",
        ),
        ({"nodes": [{"mesh": 0, "weights": [0.0, 0.5]}]}, "morph targets"),
        ({"buffers": [{"uri": "no%20such.bin"}]}, "its file no such.bin is not beside it"),
    ],
)
def test_gltf_that_would_lose_faces_is_one_line(content: dict, message: str, tmp_path: Path) -> None:
    sound = {"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}
    (tmp_path / "a.gltf").write_text(json.dumps({**sound, **content}))
    with pytest.raises(UserError, match=message):
        read_mesh_file(tmp_path / "a.gltf")


@pytest.mark.parametrize("has_default", [True, False])
def test_what_lies_beside_a_gltf_may_have_spaces_in_its_name(has_default: bool, tmp_path: Path) -> None:
    for name, data in trimesh.creation.box((1, 2, 3)).export(file_type="gltf").items():
        text = data.replace(b'"gltf_buffer', b'"my%20') if name == "model.gltf" else data
        if not has_default:
            text = text.replace(b'"scene":0,', b"")  # the first one is shown
        (tmp_path / name.replace("gltf_buffer", "my ")).write_bytes(text)
    assert volume(read_mesh_file(tmp_path / "model.gltf")) == pytest.approx(6)


def test_texts_of_windows_are_read(tmp_path: Path) -> None:
    for name, text in (("a.obj", obj_text(CORNERS, QUADS)), ("a.off", off_text(CORNERS, QUADS))):
        (tmp_path / name).write_text(text, encoding="utf-16")
        assert volume(read_mesh_file(tmp_path / name)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"", "a.obj holds no mesh"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "not among its 3 vertices"),
        ("a.obj", b"v 0 0\n", "a vertex has 2 coordinates"),
        ("a.obj", b"v 0,5 0 0\nf 1 1 1\n", "could not convert"),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "ends early"),
        ("a.off", b"OFF BINARY\n", "binary OFF"),
        ("a.ply", b"not a ply", "no .ply file"),
        ("a.ply", ply_bytes(CORNERS, QUADS, "binary_little_endian")[:-3], "ends early"),
        ("a.ply", ply_bytes(CORNERS, QUADS, "ascii")[:-9], "ends early"),
        ("a.ply", ply_bytes(CORNERS, [(0, 1, 9)], "ascii"), "not among its 8 vertices"),
        ("a.stl", b"x" * 200, "holds no mesh"),
        ("a.glb", b"glTF", "holds no mesh"),
        ("a.txt", b"", r"unknown ending.*\.npy, \.npz, \.mat"),
        ("a.vti", b"", "is VTK, which is not read: save a volume's array as .npy"),
        ("a.NII.gz", b"", "is NIfTI, which is not read"),
        ("a.FBX", b"", "is FBX, which is not read: export it as"),
    ],
)
def test_no_mesh_is_one_clear_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_mesh_file(tmp_path / name)
    assert "\n" not in str(error.value)


@given(place=st.integers(0, 400), byte=st.integers(0, 255), kind=st.sampled_from(PLY_KINDS))
def test_a_ply_with_one_byte_changed_is_read_or_refused(place: int, byte: int, kind: str) -> None:
    data = bytearray(ply_bytes(CORNERS, MIXED, kind))
    data[place % len(data)] = byte
    try:
        content = read_ply(bytes(data))
    except (ValueError, OverflowError, MemoryError):
        return
    assert content.faces.max(initial=0) < len(content.vertices)
