"""Volumes in all formats: which array of a file counts, and which of its voxels lie inside."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.shape.volumes import load_volume, occupancy_of

AXES = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 16), np.linspace(-1, 1, 12), indexing="ij")
DISTANCE = np.sqrt(AXES[0] ** 2 + AXES[1] ** 2 + (AXES[2] - 0.2) ** 2) - 0.6
FULL = DISTANCE < 0


def matlab_73(path: Path, **arrays: np.ndarray) -> None:
    """A file as MATLAB writes it with -v7.3: HDF5 behind its header, axes the other way round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("name", ["a.npy", "A.NPY", "a.npz", "a.mat", "VOL.MAT", "v73.mat", "V73.MAT"])
def test_every_format_is_read_whatever_its_capitals(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    kind = path.suffix.lower()
    if "73" in name:
        matlab_73(path, cube=FULL.astype(np.uint8), step=np.array([[3.0]]))
    elif kind == ".mat":
        scipy.io.savemat(path, {"hypercube": FULL.astype(np.uint8)}, appendmat=False)
    else:
        with path.open("wb") as file:
            if kind == ".npy":
                np.save(file, FULL.astype(np.float32))
            else:
                np.savez(file, data=FULL, step=3)
    found = load_volume(path)
    np.testing.assert_array_equal(found.occupancy, FULL)
    assert found.notes == ()


VALUES = {
    "signed distance": (DISTANCE, "inside is below 0"),
    "the other sign": (-DISTANCE, "inside is above 0"),
    "in voxels, far from 0": (DISTANCE * 1000, "inside is below 0"),
    "logits": (np.where(FULL, 8.0, -9.0), "inside is above 0"),
    "8 bits": (FULL.astype(np.uint8) * 255, "inside is above 127.5"),
    "grey": (np.clip(200 - 300 * DISTANCE, 100, 300), "inside is above 200"),
    "labels": (FULL * (1 + (AXES[0] > 0)).astype(np.int16), "inside is above 0.5 (labels"),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_done_with_other_numbers_is_said(name: str, tmp_path: Path) -> None:
    volume, words = VALUES[name]
    np.save(tmp_path / "a.npy", volume)
    found = load_volume(tmp_path / "a.npy")
    np.testing.assert_array_equal(found.occupancy, FULL)
    (note,) = found.notes
    assert words in note
    assert f"values from {volume.min():g} to {volume.max():g}" in note
    assert "--threshold" in note
    assert "--inside" in note


@given(threshold=st.floats(-0.5, 0.8), side=st.sampled_from(["above", "below"]))
def test_a_threshold_and_a_side_are_taken_as_given(threshold: float, side: str) -> None:
    found, note = occupancy_of(DISTANCE, threshold, side)
    np.testing.assert_array_equal(found, DISTANCE > threshold if side == "above" else DISTANCE < threshold)
    assert f"inside is {side}" in str(note)


def test_a_threshold_of_a_signed_distance_keeps_its_side() -> None:
    found, note = occupancy_of(DISTANCE, 0.1)
    np.testing.assert_array_equal(found, DISTANCE < 0.1)
    assert "--inside above" in str(note)
    np.testing.assert_array_equal(occupancy_of(FULL.astype(float), 0.25)[0], FULL)


def test_soft_occupancies_have_no_note() -> None:
    found, note = occupancy_of(1 / (1 + np.exp(8 * DISTANCE)))
    np.testing.assert_array_equal(found, FULL)
    assert note is None


def test_axes_of_length_one_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FULL[None, None])
    np.testing.assert_array_equal(load_volume(tmp_path / "a.npy").occupancy, FULL)


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"\x93NUMPY\x01\x00junk", b"MATLAB 7.3 MAT-file".ljust(128)]
)
def test_a_broken_volume_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    for name in ("a.npy", "a.npz", "a.mat"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read") as error:
            load_volume(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_file_without_one_volume_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((3, 3)))
    with pytest.raises(UserError, match=r"0 three-dimensional arrays .*: 3 x 3 of float64\)"):
        load_volume(tmp_path / "flat.npy")
    np.save(tmp_path / "waves.npy", FULL * 1j)
    with pytest.raises(UserError, match="of complex128"):
        load_volume(tmp_path / "waves.npy")
    scipy.io.savemat(tmp_path / "nested.mat", {"scan": {"volume": FULL * 1.0}})
    with pytest.raises(UserError, match="scan: 1 x 1 of a structure"):
        load_volume(tmp_path / "nested.mat")
    matlab_73(tmp_path / "two.mat", a=FULL * 1.0, b=FULL * 1.0)
    with pytest.raises(UserError, match=r"2 three-dimensional arrays of numbers \(a, b\)"):
        load_volume(tmp_path / "two.mat")
    np.save(tmp_path / "nan.npy", np.full((3, 3, 3), np.nan))
    with pytest.raises(UserError, match="not finite"):
        load_volume(tmp_path / "nan.npy")
    np.save(tmp_path / "empty.npy", np.zeros((0, 3, 3)))
    with pytest.raises(UserError, match="has no voxels"):
        load_volume(tmp_path / "empty.npy")
