"""LPIPS's weights are found in torch's folder, and never downloaded."""

from pathlib import Path

import pytest
import torch

from bn_field_plugin.lpips import LPIPS_WEIGHTS, has_lpips, without_lpips


def test_weights_are_those_in_torchs_hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert not has_lpips()
    assert not list(tmp_path.iterdir())
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / LPIPS_WEIGHTS).touch()
    assert has_lpips()


def test_a_model_is_made_without_it_and_torchmetrics_is_left_as_it_was() -> None:
    import torchmetrics.image.lpip as source

    original = source.LearnedPerceptualImagePatchSimilarity
    with without_lpips():
        assert list(source.LearnedPerceptualImagePatchSimilarity(normalize=True).parameters()) == []
    assert source.LearnedPerceptualImagePatchSimilarity is original
    with pytest.raises(KeyError), without_lpips():
        raise KeyError
    assert source.LearnedPerceptualImagePatchSimilarity is original
