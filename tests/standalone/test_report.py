"""Tables and files: numbers survive, and files are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from standalone.report import csv_text, machine_facts, markdown_table, write_arrays, write_table
from tests.disks import full_disk


def test_a_table_keeps_its_numbers(tmp_path: Path) -> None:
    rows = [{"method": "a", "PSNR dB": 24.123456}, {"method": "b", "SSIM": None}]
    path = write_table("t", "Title", "python -m x", rows, machine_facts(), ["One note."], folder=tmp_path)
    record = json.loads((tmp_path / "t.json").read_text())
    assert record["rows"] == rows
    assert record["command"] == "python -m x"
    text = path.read_text()
    assert "| method | PSNR dB | SSIM |" in text
    assert "| a | 24.12 |  |" in text
    assert "- One note." in text
    assert f"torch: {machine_facts()['torch']}" in text


def test_columns_come_in_the_order_of_first_appearance() -> None:
    assert markdown_table([{"b": 1}, {"a": 2, "b": 3}]).splitlines()[0] == "| b | a |"


def test_csv_keeps_its_columns_in_order() -> None:
    assert csv_text([{"b": 1, "a": 2, "c": 3}], ["a", "b", "d"]) == "a,b,d\n2,1,\n"


@pytest.mark.filterwarnings("error")  # numpy's archive would warn when it is deleted
def test_arrays_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    arrays = {"noise": np.random.default_rng(0).random(1000), "few": np.arange(3)}
    write_arrays(tmp_path / "a.npz", {"few": arrays["few"]})
    with full_disk(), pytest.raises(OSError, match="too large"):
        write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as found:
        assert found.files == ["few"]
    write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found["noise"], arrays["noise"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
