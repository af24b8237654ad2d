"""Structural similarity, against scikit-image and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from standalone.image.similarity import SMALLEST, WINDOW, similarity
from tests.standalone.image.pictures import picture


def noisy(image: np.ndarray, size: int = 20) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-size, size + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(SMALLEST, 200), (179, SMALLEST + 2), (64, 40), (WINDOW, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_that_of_scikit_image_and_of_torchmetrics(height: int, width: int, channels: int) -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    truth = picture(height, width, channels).pixels
    ours = noisy(truth)
    found = similarity(truth, ours)
    assert found.ssim == pytest.approx(
        structural_similarity(
            truth, ours, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False, sigma=1.5
        ),
        abs=1e-6,
    )
    if min(height, width) < SMALLEST:
        assert found.ms_ssim is None
        return
    a, b = (torch.from_numpy(x / 255.0).movedim(-1, 0)[None] for x in (ours, truth))
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, normalize="relu")
    # At the coarsest scale torchmetrics also counts windows that leave the image, over mirrored pixels.
    assert found.ms_ssim == pytest.approx(float(theirs), abs=1e-3)


def test_equal_images_are_as_similar_as_can_be_and_tiny_ones_have_no_windows() -> None:
    image = picture(SMALLEST, SMALLEST).pixels
    assert similarity(image, image) == (pytest.approx(1), pytest.approx(1))
    assert similarity(image[: WINDOW - 1], image[: WINDOW - 1]) == (None, None)
