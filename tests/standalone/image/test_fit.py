"""Fits of images reach them, repeat exactly, resume, and take every kind of image and network."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_field_plugin import UserError
from standalone.fitting import FitState
from standalone.image.fit import ImageFit, ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.image.task import Evaluation, ImageTask
from standalone.interrupts import FitInterrupted
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.sampling import FullBatch, SpreadBatches
from tests.standalone.image.pictures import picture

SMALL = NetworkOptions("pemlp-2", "batch", width=16, depth=3)
RUN = ImageRunOptions(steps=60, eval_every=20)


def run(image: Picture, network: NetworkOptions = SMALL, options: ImageRunOptions = RUN, **more) -> ImageFit:
    return fit_image(image, network, options, OptimizationConfig(), show_progress=False, **more)


def test_a_smooth_image_is_fitted_and_the_curve_ends_at_the_result() -> None:
    result = run(picture())
    assert result.psnr > 26
    assert [row["step"] for row in result.history] == [20, 40, 60]
    assert result.history[-1]["psnr"] == pytest.approx(result.psnr)
    assert result.network.config.norm == "none"
    assert not result.network.training


def test_the_same_seed_gives_the_same_image_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a = run(picture())
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(a.pixels, run(picture()).pixels)
    other = run(picture(), options=dataclasses.replace(RUN, seed=1))
    assert (a.pixels != other.pixels).any()


REAL = ("mlp", "pemlp-1", "fourier", "hash-6", "siren", "finer", "wire-real", "gauss")


@pytest.mark.parametrize(
    ("network", "norm"),
    [
        *((name, norm) for norm in ("none", "batch", "layer", "global", "cross") for name in REAL),
        ("wire", "none"),
    ],
)
def test_every_network_and_norm_comes_nearer_than_one_colour(network: str, norm) -> None:
    small = picture(8, 6)
    options = NetworkOptions(network, norm, width=8, depth=2)
    fitted = run(small, options, ImageRunOptions(steps=40))
    one_colour = np.broadcast_to(np.rint(small.pixels.mean((0, 1))).astype(np.uint8), small.pixels.shape)
    assert fitted.psnr > psnr(small.pixels, one_colour)


@pytest.mark.parametrize(
    ("channels", "depth", "batch_size"),
    [(1, "uint8", None), (4, "uint16", 50), (3, "float16", None), (3, "float32", 333)],
)
def test_every_kind_of_image_fits(channels: int, depth, batch_size: int | None) -> None:
    image = picture(20, 30, channels, depth, "tiff")
    result = run(image, options=dataclasses.replace(RUN, batch_size=batch_size))
    assert result.pixels.shape == image.pixels.shape
    assert result.pixels.dtype == image.pixels.dtype
    assert result.psnr > 22


def test_an_interrupted_fit_in_batches_resumes_to_the_same_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dataclasses.replace(RUN, batch_size=200)
    straight = run(picture(), options=options)
    evaluate = Evaluation.__call__

    def stop_at_40(evaluation: Evaluation, state: FitState):
        if state.step == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(evaluation, state)

    path = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "__call__", stop_at_40)
        with pytest.raises(FitInterrupted):
            run(picture(), options=options, checkpoint=path)
    resumed = run(picture(), options=options, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.pixels, straight.pixels)
    with pytest.raises(UserError, match="width was 16, now 17"):
        run(picture(), dataclasses.replace(SMALL, width=17), options, checkpoint=path, resume=True)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="--eval-every"):
        run(picture(), options=ImageRunOptions(eval_every=0))
    with pytest.raises(UserError, match="--batch-size"):
        run(picture(), options=ImageRunOptions(batch_size=1))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            run(picture(), options=ImageRunOptions(device="cuda"))


@pytest.mark.parametrize("given", [None, "full", 100])
def test_a_time_limit_goes_through_small_pictures_in_batches_unless_told_otherwise(given) -> None:
    for limited in (False, True):
        options = ImageRunOptions(batch_size=given, time_limit=60.0 if limited else None)
        sampler = ImageTask(Picture(np.zeros((200, 200, 1), np.uint8), "png")).sampler(options.batch)
        in_batches = given == 100 or (given is None and limited)
        assert isinstance(sampler, SpreadBatches if in_batches else FullBatch)


def test_a_time_limit_replaces_the_default_steps() -> None:
    assert ImageRunOptions(time_limit=2.0).budget(1000).steps is None
    assert ImageRunOptions().budget(1000).steps == 1000
