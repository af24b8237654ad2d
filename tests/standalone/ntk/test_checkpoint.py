"""Spectra of fields that nerfstudio has trained, ours and its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_field_plugin.nn import UserError
from standalone.ntk import checkpoint
from standalone.ntk.cli import main
from tests import commands
from tests.captures import write_blender_capture

NERFACTO = (
    *("--pipeline.model.log2-hashmap-size", "8", "--pipeline.model.num-levels", "2"),
    *("--pipeline.model.max-res", "64", "--pipeline.model.implementation", "torch"),
    *(
        "--pipeline.model.num-proposal-samples-per-ray",
        "8",
        "4",
        "--pipeline.model.num-nerf-samples-per-ray",
        "8",
    ),
    *("--pipeline.datamanager.train-num-rays-per-batch", "64", "--vis", "tensorboard"),
    *("--machine.device-type", "cpu", "--pipeline.model.camera-optimizer.mode", "off"),
)
"""Options that make nerfacto tiny."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of our method and of nerfacto."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_blender_capture(folder / "blender")
    end = ("--max-num-iterations", 3, "--steps-per-save", 2, "--data", "blender")
    last = ("blender-data", "--data", "blender")
    finished = commands.run_all(
        folder,
        {
            "ours": commands.training("bn-nerf-small", "ours", *end),
            "nerfacto": (
                *(
                    "ns-train",
                    "nerfacto",
                    *NERFACTO,
                    "--output-dir",
                    "outputs",
                    "--experiment-name",
                    "nerfacto",
                ),
                *("--timestamp", "t", *end[:4], *last),
            ),
        },
    )
    for one in finished.values():
        one.check()
    return folder


@pytest.mark.slow
def test_fields_of_ours_couple_their_samples(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    path = commands.config_of(work, "ours")
    main(["checkpoint", "--load-config", str(path), "--samples", "24", "--output-dir", "ntk"])
    rows = json.loads((work / "ntk/checkpoint.json").read_text())["rows"]
    kinds = {(row["field"], row["output"], row["statistics"]) for row in rows}
    assert kinds == {
        (field, output, statistics)
        for field in ("field_coarse", "field_fine")
        for output in ("density", "rgb")
        for statistics in ("batch", "frozen", "running")
    }
    saved = np.load(work / "ntk/checkpoint.npz")
    assert saved["field_fine_density_batch"].shape == (24,)
    assert saved["field_fine_rgb_batch"].shape == (72,)
    assert not np.allclose(saved["field_fine_rgb_batch"], saved["field_fine_rgb_frozen"], rtol=1e-2)
    assert (work / "ntk/checkpoint.png").exists()


@pytest.mark.slow
def test_fields_of_nerfstudio_have_spectra_too(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of nerfacto's field equals that of its gradients, one after the other."""
    monkeypatch.chdir(work)
    config = checkpoint.CheckpointConfig(commands.config_of(work, "nerfacto", "nerfacto"), samples=12)
    pipeline = checkpoint.load(config.load_config)
    found = checkpoint.spectra_of(pipeline, config)
    assert [(one.field, one.output, one.statistics) for one in found] == [
        ("field", "density", "batch"),
        ("field", "rgb", "batch"),
    ]
    ((field, samples),) = checkpoint.training_samples(pipeline, config).values()
    module = checkpoint.SampledField(field, samples, "density").double()
    density = module(samples.frustums.get_positions().double())
    learned = [p for p in module.parameters() if p.requires_grad]
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    d, learned, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            ]
        )
        for d in density[:, 0]
    ]
    values = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T).flip(0).numpy()
    np.testing.assert_allclose(found[0].values[:6], values[:6], rtol=1e-5)


def test_runs_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        checkpoint.load(tmp_path / "config.yml")
    (tmp_path / "config.yml").write_text("!!python/object:a_method.of.nobody.Config\nx: 1\n")
    with pytest.raises(UserError, match=r"config\.yml cannot be loaded.*installed method"):
        checkpoint.load(tmp_path / "config.yml")
    (tmp_path / "config.yml").write_text("a: 1\n")
    with pytest.raises(UserError, match="installed method"):
        checkpoint.load(tmp_path / "config.yml")
