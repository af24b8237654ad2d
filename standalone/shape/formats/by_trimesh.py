"""The scenes of glTF (.glb, .gltf), as trimesh reads them.

glTF holds triangles only. trimesh keeps the coordinates of the file and knows glTF's nodes, while Open3D
forgets to turn faces in mirrored nodes. The nodes' transforms are applied here in 64 bits. Files of which
trimesh would miss a part are refused.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from standalone.shape.formats.content import MeshContent

_UNREAD = {
    "KHR_draco_mesh_compression": "Draco compression",
    "EXT_meshopt_compression": "meshopt compression",
    "KHR_mesh_quantization": "quantized coordinates",
    "EXT_mesh_gpu_instancing": "copies of meshes",
}
"""Extensions of glTF that change a file's faces and are not read, with words for messages."""

_FANS = 6
"""The mode of triangle fans, which trimesh leaves out."""


def read_gltf(path: Path) -> MeshContent:
    """Read all meshes of a scene where its nodes put them, faces of mirrored ones turned (as the standard).

    Raises:
        ValueError: no glTF file, or one with compressed coordinates.
    """
    data = path.read_bytes()
    header = _gltf_header(data)
    _check(header, path.parent)
    names = [buffer["uri"] for buffer in header.get("buffers", []) if _is_file(buffer)]
    # trimesh would look for files by their names as they are written, with %20 for a space.
    beside = {name: (path.parent / unquote(name)).read_bytes() for name in names}
    return _scene(io.BytesIO(data), path.suffix.lower().removeprefix("."), beside)


def _check(header: dict[str, Any], folder: Path) -> None:
    """Refuse files that would be read without some of their faces.

    Raises:
        ValueError: extensions, kinds of faces or files that are not read.
    """
    version = str(header.get("asset", {}).get("version", "?"))
    if not version.startswith("2"):
        raise ValueError(f"it is of version {version}: export it as glTF 2.0")
    if header.get("meshes") and not header.get("scenes"):
        raise ValueError("it has no scene, which would say what of it is shown: export it with one")
    named = [*header.get("extensionsRequired", []), *header.get("extensionsUsed", [])]
    for name in named:
        required = name in header.get("extensionsRequired", [])
        if name in _UNREAD and (required or name == "EXT_mesh_gpu_instancing"):
            raise ValueError(f"it has {_UNREAD[name]} ({name}): export it without")
    for mesh in header.get("meshes", []):
        _check_mesh(mesh, header.get("accessors", []))
    for weighed in (*header.get("meshes", []), *header.get("nodes", [])):
        if any(weighed.get("weights", [])):
            raise ValueError("it has morph targets that move its corners: export it with them applied")
    for buffer in header.get("buffers", []):
        if _is_file(buffer) and not (folder / unquote(buffer["uri"])).is_file():
            raise ValueError(f"its file {unquote(buffer['uri'])} is not beside it")


def _is_file(buffer: dict[str, Any]) -> bool:
    """Whether the numbers of a buffer lie in a file of their own."""
    return not buffer.get("uri", "data:").startswith("data:")


def _check_mesh(mesh: dict[str, Any], accessors: list[dict[str, Any]]) -> None:
    """Refuse a mesh whose faces or corners trimesh would read wrongly.

    Raises:
        ValueError: triangle fans, or corners that are partly stored elsewhere.
    """
    for part in mesh.get("primitives", []):
        if part.get("mode") == _FANS:
            raise ValueError("it has triangle fans: export it as triangles")
        used = {part.get("attributes", {}).get("POSITION"), part.get("indices")}
        if any("sparse" in accessor for index, accessor in enumerate(accessors) if index in used):
            raise ValueError("it has sparse coordinates, of which trimesh reads a part: export it without")


def _gltf_header(data: bytes) -> dict[str, Any]:
    """The JSON of a .gltf or .glb file."""
    if data[:4] == b"glTF":
        if len(data) < 20:
            raise ValueError("it ends early")
        (length,) = struct.unpack_from("<I", data, 12)
        data = data[20 : 20 + length]
    header = json.loads(data)
    if not isinstance(header, dict):
        raise ValueError("it is no glTF file")
    return header


def _scene(file: io.BytesIO, kind: str, beside: dict[str, bytes]) -> MeshContent:
    """All triangles of a file, and of what lies beside it, in the coordinates of the world."""
    import trimesh

    loaded = trimesh.load(file, file_type=kind, resolver=beside, process=False)
    scene = loaded if isinstance(loaded, trimesh.Scene) else trimesh.Scene(loaded)
    vertices, faces, count = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)], 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        mesh = scene.geometry[name]
        if not isinstance(mesh, trimesh.Trimesh):  # lines and points
            continue
        matrix = np.asarray(matrix, dtype=np.float64)
        corners = np.asarray(mesh.vertices, dtype=np.float64)
        if not np.array_equal(matrix, np.eye(4)):
            corners = corners @ matrix[:3, :3].T + matrix[:3, 3]
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        triangles = np.asarray(mesh.faces, dtype=np.int64)
        vertices.append(corners)
        faces.append((triangles[:, ::-1] if mirrored else triangles) + count)
        count += len(corners)
    return MeshContent(np.concatenate(vertices), np.concatenate(faces))
