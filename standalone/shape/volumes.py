"""Occupancy volumes in files: finding the array, and which of its voxels lie inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from bn_field_plugin.errors import UserError

VOLUME_ENDINGS = (".npy", ".npz", ".mat")
"""Endings of files that are read as volumes, small or capital."""

LABELS = 16
"""Most distinct whole numbers of a volume that are taken for labels of regions."""

Side = Literal["above", "below"]
"""On which side of the threshold the inside lies."""


class Volume(NamedTuple):
    """An occupancy volume."""

    occupancy: Bool[np.ndarray, "x y z"]
    """True inside."""
    notes: tuple[str, ...]
    """Lines on how the inside was found."""


def load_volume(path: Path, threshold: float | None = None, inside: Side | None = None) -> Volume:
    """Read the one 3D array of a .npy, .npz or .mat file (MATLAB 7.3 too) and tell its inside.

    Args:
        path: the file.
        threshold: value at the surface; by default found from the values (`occupancy_of`).
        inside: side of the threshold that is inside; by default found from the values.

    Raises:
        UserError: the file cannot be read, or does not hold exactly one 3D array of finite numbers.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the path")
    try:
        arrays = _arrays(path)
    except Exception as error:  # a broken file can fail in any way
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path} cannot be read ({reason}): give a .npy, .npz or .mat volume") from None
    every = {name: _squeezed(array) for name, array in arrays.items()}
    volumes = {name: array for name, array in every.items() if array.dtype.kind in "biuf" and array.ndim == 3}
    if len(volumes) != 1:
        found = ", ".join(sorted(volumes) or [f"{name}: {_in_words(array)}" for name, array in every.items()])
        raise UserError(
            f"{path} holds {len(volumes)} three-dimensional arrays of numbers"
            f"{f' ({found[:200]})' if found else ''}: it must hold exactly one"
        )
    (volume,) = volumes.values()
    if volume.size == 0:
        raise UserError(f"{path} has no voxels: its array is of the size {volume.shape}")
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        raise UserError(f"{path} has voxels that are not finite: mend the file")
    occupancy, note = occupancy_of(volume, threshold, inside)
    return Volume(occupancy, () if note is None else (f"{path}: {note}",))


def occupancy_of(
    volume: Shaped[np.ndarray, "x y z"], threshold: float | None = None, inside: Side | None = None
) -> tuple[Bool[np.ndarray, "x y z"], str | None]:
    """Tell which voxels lie inside.

    Truth values and numbers in [0, 1] are inside above 0.5. If numbers have both signs, they count as signed
    distances: the surface is at 0, and most of the volume's border is outside. A few distinct whole numbers
    count as labels: all but 0 are inside. Other numbers are inside above the middle of their range.

    Args:
        volume: finite numbers.
        threshold: value at the surface; None to find it from the values.
        inside: side of the threshold that is inside; None to find it from the values.

    Returns:
        The occupancy of all voxels, and a line on how it was found, if that is not obvious.
    """
    low, high = float(volume.min()), float(volume.max())
    signed = low < 0 < high
    level, why = (threshold, "as asked") if threshold is not None else _level(volume, low, high)
    side: Side = inside or "above"
    if inside is None and signed:
        border = _border(volume)
        side = "above" if np.count_nonzero(border > level) * 2 <= border.size else "below"
    occupancy = volume > level if side == "above" else volume < level
    if threshold is None and inside is None and low >= 0 and high <= 1:
        return occupancy, None
    other: Side = "below" if side == "above" else "above"
    hints = [] if threshold is not None else ["--threshold sets another value"]
    hints += [] if inside is not None else [f"--inside {other} the other side"]
    tail = f"; {', '.join(hints)}" if hints else ""
    return occupancy, f"values from {low:g} to {high:g}: inside is {side} {level:g} ({why}){tail}"


def _level(volume: Shaped[np.ndarray, "x y z"], low: float, high: float) -> tuple[float, str]:
    """The value at the surface, and the reason in words."""
    if low >= 0 and high <= 1:
        return 0.5, "occupancies"
    if low < 0 < high:
        return 0.0, "both signs, as in a signed distance whose outside is at the border"
    whole = volume.dtype.kind in "iu" and len(np.unique(volume)) <= LABELS
    if whole and low >= 0 and len(np.unique(volume)) > 2:
        return 0.5, "labels, all but 0"
    return low + (high - low) / 2, "half of the range"


def _border(volume: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, " n"]:
    """Values of the voxels at the faces of the volume."""
    mask = np.ones(volume.shape, dtype=bool)
    mask[1:-1, 1:-1, 1:-1] = False
    return np.asarray(volume[mask])


def _squeezed(array: Any) -> np.ndarray:
    """Drop axes of length 1 of an array with more than three axes, such as a network's output."""
    array = np.asarray(array)
    squeezed: np.ndarray = np.squeeze(array) if array.ndim > 3 else array
    return squeezed


def _in_words(array: np.ndarray) -> str:
    """Size and type of an array that is no volume."""
    kind = "a structure" if array.dtype.names else "cells" if array.dtype.kind == "O" else str(array.dtype)
    return f"{' x '.join(map(str, array.shape)) or 'one value'} of {kind}"


def _arrays(path: Path) -> Mapping[str, Any]:
    """All arrays of a file by name."""
    if path.suffix.lower() != ".mat":
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"array": loaded}
    from scipy.io import loadmat

    try:
        return {name: v for name, v in loadmat(path, appendmat=False).items() if not name.startswith("__")}
    except NotImplementedError:  # MATLAB 7.3
        return _arrays_of_hdf5(path)


def _arrays_of_hdf5(path: Path) -> Mapping[str, Any]:
    """Arrays of a MATLAB 7.3 file, which is HDF5 with the axes the other way round."""
    import h5py

    with h5py.File(path, "r") as file:
        return {name: np.asarray(v).T for name, v in file.items() if isinstance(v, h5py.Dataset)}
