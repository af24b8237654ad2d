"""Spectra of fields that nerfstudio has trained, ours and its own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bn_field_plugin.errors import UserError
from standalone.ntk import checkpoint
from standalone.ntk.cli import main
from tests import commands
from tests.captures import write_blender_capture


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of our method, with three steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_blender_capture(folder / "blender")
    end = ("--max-num-iterations", 3, "--steps-per-save", 2, "--data", "blender")
    commands.run(folder, *commands.training("bn-nerf-small", "ours", *end), fresh=False).check()
    return folder


@pytest.fixture(scope="module")
def nerfacto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config.yml of a tiny, untrained nerfacto, as nerfstudio saves it, with numbers of numpy."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    folder = tmp_path_factory.mktemp("nerfacto")
    write_blender_capture(folder / "blender")
    config = copy.deepcopy(method_configs["nerfacto"])
    config.output_dir, config.experiment_name, config.timestamp = folder, "a", "t"
    manager: Any = config.pipeline.datamanager
    manager.dataparser = BlenderDataParserConfig(data=folder / "blender")
    manager.train_num_rays_per_batch = 64
    model: Any = config.pipeline.model
    model.implementation, model.log2_hashmap_size, model.num_levels, model.max_res = "torch", 8, 2, 64
    model.num_proposal_samples_per_ray, model.num_nerf_samples_per_ray = (8, 4), 8
    with checkpoint._nerfstudio_offline():
        torch.manual_seed(0)
        pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    config.get_checkpoint_dir().mkdir(parents=True)
    state = {"step": 2, "pipeline": pipeline.state_dict(), "optimizers": {"lr": np.float64(0.1)}}
    torch.save(state, config.get_checkpoint_dir() / "step-000000002.ckpt")
    config.save_config()
    return config.get_base_dir() / "config.yml"


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
def test_fields_of_nerfstudio_have_spectra_too(nerfacto: Path) -> None:
    """Oracle: the kernel of nerfacto's field from its gradients, one sample after the other."""
    config = checkpoint.CheckpointConfig(nerfacto, samples=12)
    chosen = checkpoint.training_samples(checkpoint.load(config.load_config), config)
    found = checkpoint.spectra_of(chosen)
    assert [(one.field, one.output, one.statistics) for one in found] == [
        ("field", "density", "batch"),
        ("field", "rgb", "batch"),
    ]
    ((field, samples),) = chosen.values()
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


@pytest.mark.slow
def test_runs_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        checkpoint.load(tmp_path / "config.yml")
    (tmp_path / "config.yml").write_text("!!python/object:a_method.of.nobody.Config\nx: 1\n")
    with pytest.raises(UserError, match=r"config\.yml cannot be loaded.*installed method"):
        checkpoint.load(tmp_path / "config.yml")
    (tmp_path / "config.yml").write_text("a: 1\n")
    with pytest.raises(UserError, match="installed method"):
        checkpoint.load(tmp_path / "config.yml")
