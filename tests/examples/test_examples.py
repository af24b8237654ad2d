"""The examples run as they stand, on tiny sizes, and show what they claim."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bn_field_plugin.nn import running_norms
from tests.captures import write_blender_capture
from tests.scenes import train_steps

LINES = 60
"""Most lines that an example may have, without blank ones."""


def run_example(repository: Path, name: str, *options: str) -> str:
    """What an example prints."""
    command = [sys.executable, f"examples/{name}.py", *options]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str, pattern: str) -> list[float]:
    """All numbers that a pattern's group finds in a text."""
    return [float(found) for found in re.findall(pattern, text)]


def test_examples_are_short(repository: Path) -> None:
    examples = list((repository / "examples").glob("*.py"))
    assert len(examples) == 5
    for example in examples:
        assert len([line for line in example.read_text().splitlines() if line]) <= LINES, example.name


@pytest.mark.slow
def test_a_picture_is_sharper_with_batch_norm(repository: Path) -> None:
    printed = run_example(repository, "fit_picture", "--steps", "80", "--side", "32")
    plain, normed = numbers(printed, r": ([\d.]+) dB")
    assert normed > plain + 1


@pytest.mark.slow
def test_folding_changes_nothing_and_exact_statistics_serve(repository: Path) -> None:
    printed = run_example(repository, "training_loop", "--steps", "40")
    running, exact = numbers(printed, r"error .*: +([\d.]+)")
    assert exact < running
    assert numbers(printed, r"at most (\S+)")[0] < 1e-4


@pytest.mark.slow
def test_a_hash_grid_learns_a_distance(repository: Path) -> None:
    printed = run_example(repository, "hash_grid_3d", "--steps", "60", "--levels", "4")
    assert numbers(printed, r"IoU of the inside: ([\d.]+)")[0] > 0.75
    assert numbers(printed, r"cosine of normals near the surface: ([\d.]+)")[0] > 0.4


@pytest.mark.slow
def test_batch_norm_lifts_the_spectrum_of_a_module(repository: Path) -> None:
    printed = run_example(repository, "spectrum", "--side", "8")
    shares = numbers(printed, r"largest\s+([\d.]+)%")
    assert len(shares) == 3
    assert shares[0] > shares[1]


@pytest.mark.slow
def test_a_method_of_ones_own_trains_and_evaluates_with_exact_statistics(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "examples"))
    method = importlib.import_module("nerfstudio_method").my_nerf
    config = method.config.pipeline
    config.datamanager.data = write_blender_capture(tmp_path)
    config.datamanager.train_num_rays_per_batch = 48
    config.model.calibration_rays = 96
    pipeline = config.setup(device="cpu")
    train_steps(pipeline, 3)
    norms = running_norms(pipeline.model)
    before = [norm.running_mean.clone() for norm in norms]
    metrics, images = pipeline.get_eval_image_metrics_and_images(3)
    assert metrics["psnr"] > 0
    assert images["img"].shape[-1] == 3
    assert len(norms) == 4
    assert not any(norm.running_mean.equal(old) for norm, old in zip(norms, before, strict=True))
