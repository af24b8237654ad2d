"""Metrics on 8-bit values equal scikit-image's, and obey their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from standalone.image.metrics import image_metrics, psnr
from tests.standalone.image.pictures import picture


def noisy(image: np.ndarray, size: int = 20) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-size, size + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_is_scikit_images() -> None:
    truth = picture().pixels
    assert psnr(truth, noisy(truth)) == pytest.approx(peak_signal_noise_ratio(truth, noisy(truth)))
    assert psnr(truth, truth) == math.inf


def test_ssim_is_scikit_images() -> None:
    truth = picture(64, 64).pixels
    theirs = structural_similarity(
        truth, noisy(truth), channel_axis=-1, gaussian_weights=True, use_sample_covariance=False, sigma=1.5
    )
    assert image_metrics(truth, noisy(truth))["ssim"] == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_small_images_have_no_ms_ssim_and_large_ones_do(channels: int) -> None:
    small = image_metrics(picture(16, 200, channels).pixels, picture(16, 200, channels).pixels)
    assert small["ms_ssim"] is None
    assert small["ssim"] == pytest.approx(1)
    tiny = picture(5, 5, channels).pixels
    assert image_metrics(tiny, tiny)["ssim"] is None
    large = picture(176, 176, channels).pixels
    assert image_metrics(large, large)["ms_ssim"] == pytest.approx(1)


def test_lpips_is_absent_where_its_weights_are(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "lpips" not in image_metrics(picture(40, 40).pixels, picture(40, 40).pixels)
