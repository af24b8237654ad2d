"""Images as tasks of the fitting loop: batches have all pixels, and reconstructions put them back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bn_field_plugin import CoordinateMLP
from standalone.fitting import FitState
from standalone.image import task as task_module
from standalone.image.metrics import psnr
from standalone.image.task import Evaluation, ImageTask
from standalone.networks import Variant
from standalone.sampling import FullBatch, SpreadBatches
from tests.standalone.image.pictures import folded, picture


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float16", "float32"])
def test_batches_are_pixels_at_their_places(depth) -> None:
    image = picture(5, 7, 3, depth, "tiff")
    task = ImageTask(image)
    coordinates, targets = task.batch(torch.tensor([0, 9, 34]))
    np.testing.assert_array_equal(coordinates.numpy(), task.grid.points(0, 35)[[0, 9, 34]].astype(np.float32))
    back = image.value_range().denormalize(targets.numpy(), image.depth)
    np.testing.assert_array_equal(back, image.pixels.reshape(-1, 3)[[0, 9, 34]])


def test_small_images_are_fitted_whole_and_large_ones_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ImageTask(picture()).sampler(), FullBatch)
    assert isinstance(ImageTask(picture()).sampler(100), SpreadBatches)
    monkeypatch.setattr(task_module, "FULL_BATCH", 100)
    monkeypatch.setattr(task_module, "BATCH_SIZE", 64)
    sampler = ImageTask(picture()).sampler()
    assert isinstance(sampler, SpreadBatches)
    assert len(sampler.next_batch()[0]) <= 64
    assert isinstance(ImageTask(picture()).sampler("full"), FullBatch)


def test_preparing_leaves_the_network_and_the_random_numbers_as_they_are() -> None:
    network = CoordinateMLP(Variant.parse("pemlp-2+batch").config(2, 3, 8, 2)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    numbers = torch.get_rng_state()
    ImageTask(picture()).prepare(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training
    assert torch.equal(torch.get_rng_state(), numbers)


def test_an_evaluation_on_the_way_is_the_final_one() -> None:
    task = ImageTask(picture())
    network = folded("pemlp-2+batch")  # folded, so its statistics are already exact
    evaluation, state = Evaluation(task), FitState(network, step=5)
    metrics = evaluation(state)
    expected = task.reconstruct(task.finished(network))
    assert metrics["psnr"] == psnr(task.picture.pixels, expected)
    for one in (state, FitState(network, step=6)):  # with evaluation kept, and without
        np.testing.assert_array_equal(evaluation.final(one).pixels, expected)
    assert evaluation.final(state) is evaluation.final(state)
    assert any(name.startswith("band ") for name in metrics)


def test_large_images_are_previewed_at_their_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "PREVIEW_PIXELS", 200)
    monkeypatch.setattr(task_module, "PREVIEW_SIDE", 8)
    task = ImageTask(picture(40, 60))
    network = folded()
    found = Evaluation(task)(FitState(network))["psnr"]
    middle = slice(16, 24), slice(26, 34)
    assert found == psnr(task.picture.pixels[middle], task.reconstruct(network)[middle])


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "global", "cross"])
def test_every_norm_reconstructs_at_the_pictures_depth(norm: str) -> None:
    image = picture(6, 9, 4, "uint16", "tiff")
    config = Variant("mlp", norm).config(2, 4, 8, 2)
    task = ImageTask(image)
    from bn_field_plugin import CoordinateMLP

    pixels = task.reconstruct(task.finished(CoordinateMLP(config)))
    assert pixels.shape == image.pixels.shape
    assert pixels.dtype == np.uint16
