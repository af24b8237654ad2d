"""Comparisons: figure, table and curves of all networks, and the part that is magnified."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from standalone.image.compare import Zoom, compare, detailed_part, draw_comparison, write_comparison
from standalone.image.fit import ImageRunOptions
from standalone.matching import STANDARD, contenders
from standalone.networks import Variant, parse_variants
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from tests.standalone.image.pictures import picture

SIZE = NetworkOptions(width=8, depth=2)
RUN = ImageRunOptions(steps=4, eval_every=2)


def test_a_comparison_writes_all_and_resumes_to_the_same(tmp_path: Path) -> None:
    variants = [Variant.parse(name) for name in ("mlp", "mlp+batch", "siren")]
    networks = contenders(variants, SIZE, 2, 3, equal=False)
    fits = compare(picture(), networks, RUN, OptimizationConfig(), tmp_path)
    write_comparison(tmp_path, picture(), fits, RUN, "bn-image compare", dpi=60)
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["MLP", "MLP + BN", "SIREN"]
    with (tmp_path / "compare.csv").open() as stream:
        assert [float(row["PSNR dB"]) for row in csv.DictReader(stream)] == [row["PSNR dB"] for row in rows]
    assert {path.name for path in (tmp_path / "reconstructions").iterdir()} == {
        *("mlp.png", "mlp+batch.png", "siren.png")
    }
    with Image.open(tmp_path / "compare.png") as figure:
        assert figure.mode == "P"
    assert (tmp_path / "curves.png").is_file()
    again = compare(picture(), networks, RUN, OptimizationConfig(), tmp_path, resume=True)
    for variant in variants:
        np.testing.assert_array_equal(again[variant].pixels, fits[variant].pixels)


def test_many_networks_follow_one_another_in_rows(tmp_path: Path) -> None:
    def size(names: tuple[str, ...]) -> tuple[int, int]:
        image = np.zeros((8, 8, 3), np.uint8)
        variants = parse_variants(names)
        path = tmp_path / "figure.png"
        scores = dict.fromkeys(variants, 30.0)
        draw_comparison(image, dict.fromkeys(variants, image), scores, path, Zoom(0, 0, 2), dpi=30)
        with Image.open(path) as figure:
            return figure.size

    many, few = size(STANDARD), size(("mlp", "siren", "mlp+batch", "siren+batch"))
    assert many[0] == 2 * few[0] and many[1] == few[1]  # 6 panels a row instead of 3, in two rows


def test_the_detailed_part_has_the_detail() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    image[20:26, 60:66] = np.random.default_rng(0).integers(0, 255, (6, 6, 3))
    part = detailed_part(image)
    assert part.top <= 20 and part.top + part.side >= 26
    assert part.left <= 60 and part.left + part.side >= 66


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 9, 3), (5, 5, 4), (31, 17, 1)])
def test_the_detailed_part_lies_inside(shape: tuple[int, int, int]) -> None:
    part = detailed_part(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8))
    assert part.side >= 1
    assert 0 <= part.top <= shape[0] - part.side
    assert 0 <= part.left <= shape[1] - part.side
