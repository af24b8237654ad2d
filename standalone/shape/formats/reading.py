"""Reading of mesh files, with a reader chosen by the file's ending."""

from __future__ import annotations

from pathlib import Path

from bn_field_plugin.errors import UserError
from standalone.shape.formats.content import MeshContent

MESH_ENDINGS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
"""Endings of files that are read as meshes, small or capital; a .ply without faces is a point cloud."""

OTHERS = {
    **{
        ".fbx": "FBX",
        ".blend": "a Blender file",
        ".3mf": "3MF",
        ".dae": "COLLADA",
        ".3ds": "3DS",
        ".max": "3ds Max",
    },
    **{".step": "STEP", ".stp": "STEP", ".iges": "IGES", ".igs": "IGES", ".usd": "USD", ".usdz": "USD"},
    **{
        ".wrl": "VRML",
        ".x3d": "X3D",
        ".las": "LAS",
        ".laz": "LAS",
        ".xyz": "XYZ",
        ".pcd": "PCD",
    },
}
"""Endings of common formats that are not read, with advice for messages."""


VOLUMES = {
    **{".vti": "VTK", ".vtk": "VTK", ".nii": "NIfTI", ".nrrd": "NRRD", ".mhd": "MetaImage", ".mrc": "MRC"},
    **{".dcm": "DICOM", ".h5": "HDF5", ".hdf5": "HDF5", ".vdb": "OpenVDB", ".binvox": "binvox"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".raw": "raw numbers", ".pt": "a file of torch"},
}
"""Endings of formats that usually hold volumes and are not read, with their names."""


def read_mesh_file(path: Path) -> MeshContent:
    """Read a mesh, or a point cloud, as the file has it.

    Args:
        path: a file with one of `MESH_ENDINGS`.

    Raises:
        UserError: the file is missing, has an unknown ending, or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the path")
    ending = path.suffix.lower()
    if ending in OTHERS:
        better = "PLY with normals" if ending in (".las", ".laz", ".xyz", ".pcd") else "PLY, OBJ or GLB"
        raise UserError(f"{path} is {OTHERS[ending]}, which is not read: export it as {better}")
    volume = VOLUMES.get(".nii" if path.name.lower().endswith(".nii.gz") else ending)
    if volume is not None:
        raise UserError(f"{path} is {volume}, which is not read: save a volume's array as .npy")
    if ending not in MESH_ENDINGS:
        raise UserError(
            f"{path}: unknown ending; give a mesh ({', '.join(MESH_ENDINGS)}) or a volume (.npy, .npz, .mat)"
        )
    try:
        content = _read(path, ending)
    except Exception as error:  # a broken file can fail in any way
        raise UserError(f"{path} holds no mesh: it is empty or no {ending} file ({_reason(error)})") from None
    if len(content.faces) == 0 and ending != ".ply":
        raise UserError(f"{path} holds no mesh: it is empty or no {ending} file (there are no faces)")
    if len(content.vertices) == 0:
        raise UserError(f"{path} holds neither faces nor points: it is empty")
    return content


def _read(path: Path, ending: str) -> MeshContent:
    # Readers are imported only when they are needed.
    if ending == ".obj":
        from standalone.shape.formats.obj import read_obj

        return read_obj(path.read_bytes())
    if ending == ".off":
        from standalone.shape.formats.off import read_off

        return read_off(path.read_bytes())
    if ending == ".ply":
        from standalone.shape.formats.ply import read_ply

        return read_ply(path.read_bytes())
    if ending == ".stl":
        from standalone.shape.formats.stl import read_stl

        return read_stl(path.read_bytes())
    from standalone.shape.formats.by_trimesh import read_gltf

    return read_gltf(path)


def _reason(error: Exception) -> str:
    """The error's message in one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
