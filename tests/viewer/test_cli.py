"""`bn-view`: the runs that it accepts, and their names on the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.viewer.cli import check_comparable, config_of, names_of
from tests.scenes import tiny_pipeline


def run(method: str, norm: str = "batch", name: str = "unnamed") -> Any:
    model = SimpleNamespace(norm=norm)
    return SimpleNamespace(method_name=method, experiment_name=name, pipeline=SimpleNamespace(model=model))


def test_runs_are_told_apart_by_what_differs() -> None:
    assert names_of(run("bn-nerf"), run("nerf", "none")) == ("bn-nerf", "nerf")
    assert names_of(run("bn-nerf"), run("bn-nerf", "layer")) == ("batch", "layer")
    assert names_of(run("bn-nerf", name="one"), run("bn-nerf", name="two")) == ("one", "two")
    assert names_of(run("bn-nerf"), run("bn-nerf")) == ("A", "B")


def test_a_run_is_its_folder_or_its_config(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    with pytest.raises(UserError, match="no run there"):
        config_of("B", tmp_path)
    config.touch()
    assert config_of("A", tmp_path) == config_of("A", config) == config


def test_one_camera_must_fit_both(capture: Path) -> None:
    one, other = (tiny_pipeline(capture, seed=seed) for seed in (0, 1))
    check_comparable(one, other)
    with pytest.raises(UserError, match="B is of a method that is not of this package"):
        check_comparable(one, SimpleNamespace())
    cameras = other.datamanager.train_dataset.cameras  # type: ignore[union-attr]
    cameras.camera_to_worlds = cameras.camera_to_worlds + torch.tensor(0.1)
    with pytest.raises(UserError, match="other training cameras"):
        check_comparable(one, other)
