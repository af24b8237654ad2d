"""The 5D panel's table and figure, from runs that are made up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import methods
from benchmarks.methods import METHODS, Methods, main, methods_of, psnr_of
from bn_field_plugin.errors import UserError
from standalone.sweep.budget import Pace
from standalone.sweep.runs import VIEWS, Result, Run
from tests.captures import write_blender_capture

PSNR = {"plenoxel": 18.0, "siren-nerf": 19.0, "nerf-small": 20.0, "nerfacto": 21.0}
PSNR |= {"bn-nerf-small": 22.5, "bn-nerfacto": 22.25, "ngp": 24.0, "bn-ngp": 25.0}
SEED_GAIN = {0: 0.0, 1: 0.5}
"""Gain in PSNR, by seed, that the made-up runs with batch norm have."""


def made_up(run: Run, output_dir: Path) -> Result:
    """Pretend to run a method: write the picture that ns-eval would write."""
    ours = run.method.name.startswith("bn-")
    psnr = PSNR[run.method.name] + (SEED_GAIN[run.seed] if ours else 0)
    views = run.folder(output_dir) / VIEWS
    views.mkdir(parents=True, exist_ok=True)
    picture = np.full((200, 400, 3), 255, dtype=np.uint8)
    noise = np.random.default_rng(run.seed).integers(0, 256, (140, 140, 3), dtype=np.uint8)
    picture[30:170, 30:170], picture[30:170, 230:370] = noise, 255 - noise
    Image.fromarray(picture).save(views / "eval_img_0000.png")
    metrics = {"psnr": psnr, "ssim": 0.5, "num_rays_per_sec": 1e3}
    return Result(60.0, 10.0, metrics, "config.yml", {})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    scene = write_blender_capture(folder / "scene")
    config = Methods(scene, minutes=(1.5, 3), seeds=(0, 1), test_views=1, output_dir=folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "run_or_recall", made_up)
        patch.setattr(methods, "pace_of", lambda run, seconds, output_dir: Pace(10.0, 0.1))
        main(dataclasses.replace(config, write_here=True))
    return folder / "out"


def test_every_method_has_a_row_at_each_budget(written: Path) -> None:
    rows = json.loads((written / "methods.json").read_text())["rows"]
    labels = [method.label for method in METHODS]
    steps = {"equal steps": 250} | {
        f"{minutes:g} minutes": Pace(10.0, 0.1).steps(60 * minutes) for minutes in (1.5, 3)
    }
    assert [(row["budget"], row["method"], row["steps"]) for row in rows] == [
        (budget, label, number) for budget, number in steps.items() for label in labels
    ]


def test_rays_in_a_step_are_the_panels_but_where_a_method_adapts_them(tmp_path: Path) -> None:
    chosen = methods_of(Methods(tmp_path, methods=("NeRF, small", "ngp"), rays=77))
    assert [(method.name, "77" in method.options) for method in chosen] == [
        ("nerf-small", True),
        ("ngp", False),
    ]


def test_a_method_that_the_panel_lacks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--methods 'nerf' is not in the panel: it has Plenoxel"):
        methods_of(Methods(tmp_path, methods=("nerf",)))


def test_gains_are_taken_seed_by_seed(written: Path) -> None:
    notes = json.loads((written / "methods.json").read_text())["notes"]
    line = "nerfacto + BN over nerfacto, equal steps: +1.50 dB, standard deviation 0.35 over seeds"
    assert f"{line}; target at least +1 dB (met)." in notes


def test_the_figure_has_a_palette_and_a_column_for_each_method(written: Path) -> None:
    """A palette keeps it small enough for a repository."""
    with Image.open(written / "methods.png") as figure:
        assert figure.mode == "P"
        assert figure.width > figure.height > 0


def test_psnr_of_a_picture_is_that_of_its_error() -> None:
    truth = np.zeros((4, 4, 3), dtype=np.uint8)
    assert psnr_of(truth, truth + np.uint8(51)) == pytest.approx(-20 * np.log10(0.2))
