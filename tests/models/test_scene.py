"""Bounds and background of a scene: decided once, by the data, or an error."""

from __future__ import annotations

from typing import Any

import pytest

from bn_field_plugin.errors import UserError
from bn_field_plugin.models.bn_mipnerf import BNMipNeRFModelConfig
from bn_field_plugin.models.bn_nerf import BNNeRFModelConfig
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModelConfig
from bn_field_plugin.models.bn_neus import BNNeuSModelConfig
from bn_field_plugin.models.bn_ngp import BNNGPModelConfig
from bn_field_plugin.models.plenoxel import PlenoxelModelConfig
from bn_field_plugin.models.scene import SceneConfig

CONFIGS = (
    BNMipNeRFModelConfig,
    BNNeRFModelConfig,
    BNNerfactoModelConfig,
    BNNeuSModelConfig,
    BNNGPModelConfig,
    PlenoxelModelConfig,
)


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_model_guesses_at_a_scene_that_nobody_looked_at(kind: Any) -> None:
    config = kind()
    assert (config.scene, config.background_color) == ("auto", "auto")
    with pytest.raises(UserError, match="give bounded or unbounded"):
        _ = config.is_bounded
    assert kind(scene="bounded").is_bounded
    assert not kind(scene="unbounded").is_bounded


def test_what_is_behind_follows_from_the_scene_unless_it_is_chosen() -> None:
    assert SceneConfig("bounded").shown_background() == "white"
    assert SceneConfig("unbounded").shown_background() == "last_sample"
    assert SceneConfig("unbounded").shown_background(unbounded="black") == "black"
    assert SceneConfig("auto", "random").shown_background() == "random"
