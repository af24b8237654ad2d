"""The viewer shows every method, with or without norms, and changes none."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

from bn_field_plugin import method_configs
from bn_field_plugin.viewer import probe
from bn_field_plugin.viewer.rendering import render
from tests.viewer.cases import camera, generators, same_state, state_of

SMALL: dict[str, dict[str, Any]] = {
    "bn_mipnerf": {},
    "bn_neus": {},
    "bn_nerfacto": {
        "implementation": "torch",
        "log2_hashmap_size": 10,
        "num_levels": 4,
        "num_proposal_samples_per_ray": (12, 8),
        "num_nerf_samples_per_ray": 6,
        "proposal_norm": "batch",
    },
    "bn_ngp": {"grid_resolution": 16, "samples_per_step": 512},
    "bn_ngp of a capture": {"scene": "unbounded", "samples_per_step": 512},
    "siren_nerf": {},
    "plenoxel": {},
}
"""Options that make each method small. Words after a method's name tell its variants apart."""


@pytest.mark.parametrize("method", SMALL)
def test_it_can_be_looked_at(method: str, capture: Path) -> None:
    config: Any = copy.deepcopy(getattr(method_configs, method.split()[0]).config.pipeline)
    config.datamanager.dataparser, config.datamanager.data = BlenderDataParserConfig(), capture
    config.datamanager.train_num_rays_per_batch = config.datamanager.eval_num_rays_per_batch = 32
    for name, value in {**SMALL[method], "calibration_rays": 32}.items():
        setattr(config.model, name, value)
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="val").train()
    losses = pipeline.get_train_loss_dict(0)[1]
    sum(losses.values()).backward()  # training leaves tensors that have a graph
    before, numbers = state_of(pipeline.model), generators()
    fields = list(probe.networks(pipeline.model))
    found = probe.look(pipeline, pipeline.fixed_rays(32), fields[-1] if fields else None)
    has_networks, has_norms = method != "plenoxel", method.startswith("bn_")
    assert bool(fields) == has_networks
    assert (found.eigenvalues is not None and found.eigenvalues.max() > 0) == has_networks, found.problem
    assert bool(found.drift) == has_norms
    exact = pipeline.norm_panel.exact
    for statistics in ("running", "exact", "batch") if has_norms else ("running",):
        outputs = render(
            pipeline.model, camera(6), statistics=statistics, wanted={"density", "drift"}, exact=exact
        )
        extra = {name for name in ("density", "drift") if name in outputs}
        assert extra == ({"density"} if method != "bn_neus" else set()) | ({"drift"} if has_norms else set())
        assert all(outputs[name].max() > 0 for name in extra)
    assert same_state(state_of(pipeline.model), before)
    assert generators() == numbers
