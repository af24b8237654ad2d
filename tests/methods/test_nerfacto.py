"""bn-nerfacto on bounded scenes has the settings that nerfacto gets in the benchmarks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from nerfstudio.configs.method_configs import all_methods

from benchmarks.nerfacto import NERFACTO_ON_BLENDER
from bn_field_plugin.method_configs import bn_nerfacto
from bn_field_plugin.models.bn_nerfacto import resolved

PREFIX = "--pipeline.model."
OPTIONS = dict(zip(NERFACTO_ON_BLENDER[::2], NERFACTO_ON_BLENDER[1::2], strict=True))

OTHERWISE = {
    # Nothing outside the box is sampled, so the first plane is never reached.
    "near-plane": "0.05",
    # Without embeddings, as on bounded scenes, this changes nothing.
    "use-average-appearance-embedding": "True",
}
"""Options in which bn-nerfacto differs from the benchmarks' nerfacto without effect."""


def bounded() -> Any:
    model: Any = copy.deepcopy(bn_nerfacto.config.pipeline.model)
    model.scene = "bounded"
    return resolved(model)


def value(config: Any, option: str) -> str:
    for name in option.removeprefix(PREFIX).replace("-", "_").split("."):
        config = getattr(config, name)
    return f"{config:g}" if type(config) in (int, float) else str(config)


@pytest.mark.parametrize("option", sorted(OPTIONS.keys() - {f"{PREFIX}implementation"}))
def test_both_sides_have_the_same_settings(option: str) -> None:
    wanted = OTHERWISE.get(option.removeprefix(PREFIX), OPTIONS[option])
    wanted = f"{float(wanted):g}" if wanted.replace(".", "", 1).isdigit() else wanted
    assert value(bounded(), option) == wanted


def test_a_bounded_scene_has_no_embeddings() -> None:
    assert not bounded().use_appearance_embedding


@pytest.mark.parametrize("group", ["fields", "proposal_networks"])
def test_both_sides_have_the_same_learning_rates(group: str) -> None:
    rates = [
        config.optimizers[group]["optimizer"].lr for config in (bn_nerfacto.config, all_methods["nerfacto"])
    ]
    assert rates == [1e-2, 1e-2]
